//! Keys: `sk_test_NAME` (also `rk_test_NAME`) and `pk_test_NAME` open the world NAME; there is no list of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::ApiError;
use crate::request::Caller;

/// The world's name and what the caller may do, from the `Authorization` header, or from the `key` that Stripe.js puts into
/// its forms.
pub(crate) fn authenticate(header: Option<&str>, form_key: Option<&str>) -> Result<(String, Caller), ApiError> {
    let key = match header {
        Some(header) => read(header),
        None => form_key.map(str::to_owned),
    };
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        return Err(ApiError::unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth \
             (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or \
             we can help at https://support.stripe.com/.",
        ));
    };
    let known = [("sk_test_", Caller::Secret), ("rk_test_", Caller::Secret), ("pk_test_", Caller::Publishable)];
    for (prefix, caller) in known {
        if let Some(name) = key.strip_prefix(prefix)
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        {
            return Ok((name.to_owned(), caller));
        }
    }
    Err(ApiError::unauthorized(format!("Invalid API Key provided: {}", mask(&key))))
}

/// `Bearer KEY`, or `Basic` with the key as the user.
fn read(header: &str) -> Option<String> {
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
        return text.split(':').next().map(str::to_owned);
    }
    None
}

/// The first eight and the last four characters.
fn mask(key: &str) -> String {
    let characters: Vec<char> = key.chars().collect();
    let count = characters.len();
    characters.iter().enumerate().map(|(index, c)| if index < 8 || index + 4 >= count { *c } else { '*' }).collect()
}
