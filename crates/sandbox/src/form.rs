//! Form bodies and queries as Stripe writes them: `a[b]=`, `a[0][b]=`, `a[]=`. Lists are objects with numbers for keys, until
//! somebody reads them as a list: only the reader knows whether `metadata[1]` is one.

use serde_json::{Map, Value};

/// Reads a form into nested objects, whose leaves are texts.
pub(crate) fn parse(text: &str) -> Value {
    let mut root = Value::Object(Map::new());
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        insert(&mut root, &segments(&decode(key)), decode(value));
    }
    root
}

/// How deep names may nest: no parameter of Stripe's comes near it.
const DEEPEST: usize = 16;

/// `a[b][0]` as `a`, `b`, `0`. What is not well formed, or too deep, is one name.
fn segments(key: &str) -> Vec<String> {
    let Some((first, rest)) = key.split_once('[') else { return vec![key.to_owned()] };
    let Some(inside) = rest.strip_suffix(']') else { return vec![key.to_owned()] };
    if inside.matches("][").count() >= DEEPEST {
        return vec![key.to_owned()];
    }
    std::iter::once(first).chain(inside.split("][")).map(str::to_owned).collect()
}

fn insert(into: &mut Value, path: &[String], value: String) {
    let Some((first, rest)) = path.split_first() else {
        *into = Value::String(value);
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Some(map) = into.as_object_mut() else { return };
    let key = if first.is_empty() { position(map, rest) } else { first.clone() };
    insert(map.entry(key).or_insert(Value::Null), rest, value);
}

/// Where `[]` puts the next value: behind the last, or into the last as long as that does not have it.
fn position(map: &Map<String, Value>, rest: &[String]) -> String {
    let last = map.len().saturating_sub(1).to_string();
    let open = rest.first().is_some_and(|field| {
        map.get(&last).and_then(Value::as_object).is_some_and(|element| !element.contains_key(field))
    });
    if open { last } else { map.len().to_string() }
}

/// Undoes percent-encoding, and `+` for a space. Broken escapes stand for themselves.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let escaped = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Percent-encodes everything but letters, digits and `-_.~`.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parse;

    #[test]
    fn nested_names_lists_and_escapes() {
        assert_eq!(
            parse(
                "a=1&b%5Bc%5D=x+y&items[0][price]=p&items[0][quantity]=2&items[1][price]=q&expand[]=a&expand[]=b%2Bc"
            ),
            json!({
                "a": "1",
                "b": {"c": "x y"},
                "items": {"0": {"price": "p", "quantity": "2"}, "1": {"price": "q"}},
                "expand": {"0": "a", "1": "b+c"},
            })
        );
        assert_eq!(
            parse("items[][price]=p&items[][quantity]=2&items[][price]=q"),
            json!({"items": {"0": {"price": "p", "quantity": "2"}, "1": {"price": "q"}}})
        );
        assert_eq!(parse("metadata="), json!({"metadata": ""}));
    }
}
