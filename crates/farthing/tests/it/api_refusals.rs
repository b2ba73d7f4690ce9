//! Bad input of every kind, in one table: what is sent, and the status, code and pointer of the problem that comes back.
//! Whatever comes, nothing changes and nothing breaks.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{TestApp, TestRequest, on_both, text};

/// What is sent, and the status, code and pointer (empty where there is none) of the answer.
type Case = (TestRequest, u16, &'static str, &'static str);

#[tokio::test]
async fn bad_input_is_refused_with_a_reason_and_changes_nothing() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        app.charge("jane", "minutes", "1").await.is(201);
        let hold = json!({"customer": "jane", "meter": "minutes", "quantity": 1});
        let hold = app.post("/v1/holds", hold).await.is(201);
        let mut cases = charges(&app);
        cases.extend(whole_bodies(&app));
        cases.extend(batches(&app));
        cases.extend(customers(&app));
        cases.extend(grants(&app));
        cases.extend(holds(&app, text(&hold, "id")));
        cases.extend(recurring_charges(&app));
        cases.extend(events(&app));
        cases.extend(cloud_events(&app));
        cases.extend(paths_and_queries(&app));
        cases.extend(headers_and_methods(&app));

        let before = app.database.dump().await;
        let mut wrong = Vec::new();
        for (request, status, code, pointer) in cases {
            let answer = request.send().await;
            let problem = answer.problem();
            let got = (answer.status, text(&problem, "code"), problem["pointer"].as_str().unwrap_or_default());
            if got != (status, code, pointer) {
                wrong.push(format!("not {status} {code} {pointer}: {} {problem}", answer.what));
            }
        }
        assert_eq!(wrong, [] as [String; 0]);
        assert_eq!(app.database.dump().await, before);
    })
    .await;
}

fn post(app: &TestApp, path: &str, body: impl Into<Vec<u8>>) -> TestRequest {
    app.request("POST", path).body("application/json", body.into())
}

/// The text of an object with these members, one of which is replaced or added.
fn object(members: &[(&str, &str)], name: &str, value: &str) -> String {
    let mut members: Vec<_> = members.iter().copied().filter(|member| member.0 != name).collect();
    if !value.is_empty() {
        members.push((name, value));
    }
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", members.join(", "))
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// Texts that no member takes: of another type, empty, too long, with a control character.
fn no_texts(longest: usize) -> Vec<String> {
    let mut texts: Vec<String> = ["1", "true", "[]", "{}", "1e400"].map(str::to_owned).into();
    texts.extend(["", r"a\u0000b", r"a\u001fb", r"a\u007fb", r"a\u009fb", r"a\nb"].map(quoted));
    texts.push(quoted(&"x".repeat(longest + 1)));
    texts.push(quoted(&"ü".repeat(longest + 1)));
    texts
}

/// A charge with one member that is wrong.
fn charges(app: &TestApp) -> Vec<Case> {
    let good = [("customer", "\"jane\""), ("meter", "\"tokens\""), ("quantity", "1")];
    let invalid = |name, pointer| move |value: String| (name, value, 400, "invalid_value", pointer);
    let mut members = Vec::new();
    for (name, pointer) in [
        ("customer", "/customer"),
        ("meter", "/meter"),
        ("subject", "/subject"),
        ("operation_key", "/operation_key"),
        ("time", "/time"),
    ] {
        members.extend(no_texts(255).into_iter().map(invalid(name, pointer)));
    }
    let numbers =
        ["-1", "-0.000001", "0.0000001", "1e-7", "9000000000001", "9000000000000.000001", "1e13", "1e40", "1e400"];
    members.extend(numbers.map(str::to_owned).map(invalid("quantity", "/quantity")));
    members.extend(numbers.map(quoted).map(invalid("quantity", "/quantity")));
    let texts = [
        "", " 1", "1 ", "+1", "1_000", "1,5", "1.", ".5", "1e3", "0x10", "NaN", "Infinity", "١", r"\u0031", r"1\u0000",
    ];
    members.extend(texts.map(quoted).map(invalid("quantity", "/quantity")));
    members.extend(["null", "true", "[1]", "{}"].map(str::to_owned).map(invalid("quantity", "/quantity")));
    for text in ["yesterday", "2026-03-02", "2026-03-02T09:00:00", "2026-02-30T09:00:00Z", "10000-01-01T00:00:00Z"] {
        members.push(invalid("time", "/time")(quoted(text)));
    }
    members.push(invalid("time", "/time")(quoted("1969-12-31T23:59:59.999999Z")));
    members.push(("time", quoted("2026-03-02T09:06:00Z"), 422, "time_in_future", "/time"));
    members.push(("time", quoted("9999-12-30T21:59:59Z"), 422, "time_in_future", "/time"));
    members.push(("customer", quoted("nobody"), 404, "unknown_customer", "/customer"));
    members.push(("meter", quoted("seconds"), 422, "unknown_meter", "/meter"));
    members.push(("dimensions", r#"{"region": "eu"}"#.to_owned(), 422, "unknown_dimension", "/dimensions"));
    for (name, all, of_model, of_nameless, of_control) in [
        ("dimensions", "/dimensions", "/dimensions/model", "/dimensions/", "/dimensions/a\0"),
        ("metadata", "/metadata", "/metadata/model", "/metadata/", "/metadata/a\0"),
    ] {
        members.extend(
            no_texts(255).into_iter().map(|text| format!("{{\"model\": {text}}}")).map(invalid(name, of_model)),
        );
        members.push(invalid(name, of_nameless)(r#"{"": "x"}"#.to_owned()));
        members.push(invalid(name, of_control)(r#"{"a\u0000": "x"}"#.to_owned()));
        let many: Vec<_> = (0..17).map(|number| format!("\"m{number}\": \"x\"")).collect();
        let many = format!("{{{}}}", many.join(", "));
        for value in ["null", "[]", "\"model\"", r#"{"a": "b", "a": "c"}"#, &many] {
            members.push(invalid(name, all)(value.to_owned()));
        }
    }
    let sent = |(name, value, status, code, pointer): (_, String, _, _, _)| {
        (post(app, "/v1/charges", object(&good, name, &value)), status, code, pointer)
    };
    members.into_iter().map(sent).collect()
}

/// Bodies that are wrong as a whole.
fn whole_bodies(app: &TestApp) -> Vec<Case> {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let mut bodies: Vec<(Vec<u8>, &str, &str)> = vec![
        (
            br#"{"customer": "jane", "meter": "minutes", "quantity": 1, "colour": "red"}"#.into(),
            "invalid_value",
            "/colour",
        ),
        (br#"{"customer": "jane", "customer": "jane", "meter": "minutes", "quantity": 1}"#.into(), "invalid_value", ""),
        (br#"{"meter": "minutes", "quantity": 1}"#.into(), "invalid_value", ""),
        (br#"["jane", "minutes", 1, null, {}, null, {}, null]"#.into(), "invalid_value", ""),
        (br#"{"customer": "jane", "meter": "minutes", "quantity": NaN}"#.into(), "invalid_json", ""),
        (br#"{"customer": "jane", "meter": "minutes", "quantity": 01}"#.into(), "invalid_json", ""),
        (br#"{"customer": "jane", "meter": "minutes", "quantity": 1} {"#.into(), "invalid_json", ""),
        (br#"{"customer": "jane", "meter": "minutes", "quantity": 1}garbage"#.into(), "invalid_json", ""),
        (br#"{"customer": "\ud800", "meter": "minutes", "quantity": 1}"#.into(), "invalid_value", "/customer"),
        (b"{\"customer\": \"j\xff\", \"meter\": \"minutes\", \"quantity\": 1}".into(), "invalid_json", ""),
        (b"{\"customer\": \"j\0\", \"meter\": \"minutes\", \"quantity\": 1}".into(), "invalid_json", ""),
        (b"{\xff}".into(), "invalid_json", ""),
        (deep(100_000).into(), "invalid_value", ""),
        (format!(r#"{{"customer": {}}}"#, deep(100_000)).into(), "invalid_value", "/customer"),
    ];
    for scalar in ["null", "1", "true", "\"charge\"", "[]"] {
        bodies.push((scalar.into(), "invalid_value", ""));
    }
    for broken in ["", " ", "{", "{\"customer\"}", "{'customer': 'jane'}", "customer=jane"] {
        bodies.push((broken.into(), "invalid_json", ""));
    }
    let mut cases = Vec::new();
    for (body, code, pointer) in bodies {
        cases.push((post(app, "/v1/charges", body), 400, code, pointer));
    }
    for path in
        ["/v1/charges", "/v1/charges/batch", "/v1/events", "/v1/holds", "/v1/check", "/v1/customers/jane/grants"]
    {
        let large = format!(r#"{{"customer": "{}"}}"#, "j".repeat(1 << 20));
        cases.push((post(app, path, large), 413, "body_too_large", ""));
        cases.push((post(app, path, "{"), 400, "invalid_json", ""));
    }
    cases
}

fn batches(app: &TestApp) -> Vec<Case> {
    let good = r#"{"customer": "jane", "meter": "minutes", "quantity": 1}"#;
    let many = vec![good; 1001].join(",");
    let with = |charge: &str| format!(r#"{{"charges": [{good}, {charge}]}}"#);
    let batches = [
        ("{}".to_owned(), 400, "invalid_value", ""),
        (r#"{"charges": []}"#.to_owned(), 400, "invalid_value", "/charges"),
        (format!(r#"{{"charges": [{many}]}}"#), 400, "invalid_value", "/charges"),
        (format!(r#"{{"charges": [{good}], "atomic": 1}}"#), 400, "invalid_value", "/atomic"),
        (
            with(r#"{"customer": "jane", "meter": "minutes", "quantity": "1e3"}"#),
            400,
            "invalid_value",
            "/charges/1/quantity",
        ),
        (with(r#"{"customer": "jane", "meter": "minutes"}"#), 400, "invalid_value", "/charges/1"),
        (with(r#"["jane", "minutes", 1, null, {}, null, {}, null]"#), 400, "invalid_value", "/charges/1"),
        (with("null"), 400, "invalid_value", "/charges/1"),
    ];
    batches.map(|(body, status, code, pointer)| (post(app, "/v1/charges/batch", body), status, code, pointer)).into()
}

fn customers(app: &TestApp) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut put = |path: &str, body: &str, status, code, pointer| {
        let request = app.request("PUT", path).body("application/json", body.to_owned());
        cases.push((request, status, code, pointer));
    };
    for (body, pointer) in [
        ("[]", ""),
        ("[null, null, null, null]", ""),
        (r#"{"name": "Jane"}"#, "/name"),
        (r#"{"status": "gone"}"#, "/status"),
        (r#"{"payment_method": "yes"}"#, "/payment_method"),
        (r#"{"profile": [null, null]}"#, "/profile"),
        (r#"{"profile": {"phone": "1"}}"#, "/profile/phone"),
        (r#"{"profile": {"name": "Ja\u0000ne"}}"#, "/profile/name"),
        (r#"{"profile": {"email": ""}}"#, "/profile/email"),
        (r#"{"profile": {"metadata": {"note": "\u001b[31m"}}}"#, "/profile/metadata/note"),
        (r#"{"overage": {"policy": "never"}}"#, "/overage/policy"),
        (r#"{"overage": ["owe", 1]}"#, "/overage"),
        (r#"{"overage": {}}"#, "/overage"),
        (r#"{"overage": {"policy": "owe", "limit": -1}}"#, "/overage/limit"),
        (r#"{"overage": {"policy": "owe", "limit": "lots"}}"#, "/overage/limit"),
    ] {
        put("/v1/customers/jane", body, 400, "invalid_value", pointer);
    }
    let long = format!("/v1/customers/{}", "x".repeat(256));
    for path in ["/v1/customers/a%00b", "/v1/customers/%0A", "/v1/customers/%C2%9F", &long, "/v1/customers/erased_jane"]
    {
        put(path, "{}", 400, "invalid_parameter", "customer");
    }
    put("/v1/customers/%ff", "{}", 400, "invalid_parameter", "path");
    cases
}

fn grants(app: &TestApp) -> Vec<Case> {
    let good = [("amount", "1"), ("kind", "\"paid\"")];
    let mut members: Vec<(&str, String, u16, &'static str, &'static str)> = vec![
        ("amount", String::new(), 400, "invalid_value", ""),
        ("kind", String::new(), 400, "invalid_value", ""),
        ("asset", quoted("EUR"), 422, "unknown_asset", "/asset"),
        ("asset", quoted("usd"), 422, "unknown_asset", "/asset"),
        ("expires_at", quoted("2026-03-02T09:00:00Z"), 422, "already_expired", "/expires_at"),
        ("meters", r#"["minutes", "hours"]"#.to_owned(), 422, "unknown_meter", "/meters"),
        ("meters", r#"["minutes", ""]"#.to_owned(), 400, "invalid_value", "/meters/1"),
        ("meters", format!("[{}]", vec!["\"minutes\""; 101].join(",")), 400, "invalid_value", "/meters"),
        ("meter", quoted("minutes"), 400, "invalid_value", "/meter"),
    ];
    for (member, pointer, values) in [
        ("amount", "/amount", &["0", "-1", "0.0000001", "1e13", "null", "\"ten\""][..]),
        ("kind", "/kind", &["\"gift\"", "null", "1"]),
        ("priority", "/priority", &["-1", "1001", "99999", "1.5", "\"1\""]),
        ("expires_at", "/expires_at", &["\"soon\"", "\"10000-01-01T00:00:00Z\"", "1"]),
        ("meters", "/meters", &["[]", "{}", "\"minutes\""]),
    ] {
        members.extend(values.iter().map(|value| (member, (*value).to_owned(), 400, "invalid_value", pointer)));
    }
    members.extend(no_texts(1000).into_iter().map(|text| ("reason", text, 400, "invalid_value", "/reason")));
    members.extend(no_texts(255).into_iter().map(|text| ("asset", text, 400, "invalid_value", "/asset")));
    let path = "/v1/customers/jane/grants";
    let sent = |(name, value, status, code, pointer): (_, String, _, _, _)| {
        (post(app, path, object(&good, name, &value)), status, code, pointer)
    };
    let mut cases: Vec<Case> = members.into_iter().map(sent).collect();
    let good = object(&good, "", "");
    cases.push((post(app, "/v1/customers/nobody/grants", good.clone()), 404, "unknown_customer", "customer"));
    cases.push((post(app, "/v1/customers/a%00b/grants", good), 400, "invalid_parameter", "customer"));
    let none = "grant_00000000000000000000000000000000000";
    for (customer, grant, code) in
        [("jane", none, "unknown_grant"), ("jane", "grant_0", "unknown_grant"), ("jane", "ch_0", "unknown_grant")]
    {
        let path = format!("/v1/customers/{customer}/grants/{grant}/void");
        cases.push((app.request("POST", &path), 404, code, ""));
    }
    let nobody = format!("/v1/customers/nobody/grants/{none}/void");
    cases.push((app.request("POST", &nobody), 404, "unknown_customer", "customer"));
    cases
}

fn recurring_charges(app: &TestApp) -> Vec<Case> {
    let path = "/v1/customers/jane/recurring_charges";
    let good = [("meter", "\"minutes\""), ("quantity", "1")];
    let members = [
        ("meter", "", 400, "invalid_value", ""),
        ("meter", "\"hours\"", 422, "unknown_meter", "/meter"),
        ("meter", "\"numbers\"", 402, "payment_method_required", ""),
        ("quantity", "", 400, "invalid_value", ""),
        ("quantity", "0", 400, "invalid_value", "/quantity"),
        ("quantity", "-1", 400, "invalid_value", "/quantity"),
        ("quantity", "41", 402, "insufficient_funds", ""),
        ("interval", "\"fortnight\"", 400, "invalid_value", "/interval"),
        ("interval", "1", 400, "invalid_value", "/interval"),
        ("subject", "\"\"", 400, "invalid_value", "/subject"),
        ("day", "1", 400, "invalid_value", "/day"),
    ];
    let sent =
        |(name, value, status, code, pointer)| (post(app, path, object(&good, name, value)), status, code, pointer);
    let mut cases: Vec<Case> = members.map(sent).into();
    let nobody = post(app, "/v1/customers/nobody/recurring_charges", object(&good, "", ""));
    cases.push((nobody, 404, "unknown_customer", "customer"));
    for (customer, id, code, pointer) in [
        ("jane", "rec_00000000000000000000000000000000000", "unknown_recurring_charge", ""),
        ("jane", "grant_00000000000000000000000000000000000", "unknown_recurring_charge", ""),
        ("nobody", "rec_00000000000000000000000000000000000", "unknown_customer", "customer"),
    ] {
        cases.push((
            app.request("POST", &format!("/v1/customers/{customer}/recurring_charges/{id}/end")),
            404,
            code,
            pointer,
        ));
    }
    cases
}

fn holds(app: &TestApp, hold: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |path: &str, body: &str, status, code, pointer| {
        cases.push((post(app, path, body), status, code, pointer));
    };
    let good = [("customer", "\"jane\""), ("meter", "\"minutes\""), ("quantity", "1")];
    for (name, value, status, code, pointer) in [
        ("quantity", "", 400, "invalid_value", "/quantity"),
        ("amount", "1", 400, "invalid_value", "/amount"),
        ("quantity", "-1", 400, "invalid_value", "/quantity"),
        ("expires_in", "0", 400, "invalid_value", "/expires_in"),
        ("expires_in", "2678401", 400, "invalid_value", "/expires_in"),
        ("expires_in", "-1", 400, "invalid_value", "/expires_in"),
        ("expires_in", "1e400", 400, "invalid_value", "/expires_in"),
        ("expires_at", "\"2026-03-02T10:00:00Z\"", 400, "invalid_value", "/expires_at"),
        ("subject", r#""\u0000""#, 400, "invalid_value", "/subject"),
        ("customer", "\"nobody\"", 404, "unknown_customer", "/customer"),
        ("meter", "\"hours\"", 422, "unknown_meter", "/meter"),
        ("dimensions", r#"{"model": "x"}"#, 422, "unknown_dimension", "/dimensions"),
    ] {
        add("/v1/holds", &object(&good, name, value), status, code, pointer);
    }
    for verb in ["extend", "capture", "settle"] {
        let none = "hold_00000000000000000000000000000000000";
        for (id, body, status, code, pointer) in [
            (hold, r#"{"quantity": -1}"#, 400, "invalid_value", "/quantity"),
            (hold, r#"{"quantity": 1, "meter": "minutes"}"#, 400, "invalid_value", "/meter"),
            (hold, "[1]", 400, "invalid_value", ""),
            (none, r#"{"quantity": 1}"#, 404, "unknown_hold", ""),
            ("hold_", r#"{"quantity": 1}"#, 404, "unknown_hold", ""),
            ("%00", r#"{"quantity": 1}"#, 400, "invalid_parameter", "hold"),
        ] {
            add(&format!("/v1/holds/{id}/{verb}"), body, status, code, pointer);
        }
    }
    let settle = format!("/v1/holds/{hold}/settle");
    add(&settle, "{}", 400, "invalid_value", "");
    add(&settle, r#"{"quantity": 1, "time": "2026-03-02T09:06:00Z"}"#, 422, "time_in_future", "/time");
    cases
}

fn events(app: &TestApp) -> Vec<Case> {
    let good = [("customer", "\"jane\""), ("meter", "\"minutes\""), ("quantity", "1")];
    let mut members: Vec<(&str, String, u16, &'static str, &'static str)> = vec![
        ("customer", quoted("nobody"), 404, "unknown_customer", "/customer"),
        ("customer", quoted("erased_jane"), 400, "invalid_value", "/customer"),
        ("meter", quoted("hours"), 422, "unknown_meter", "/meter"),
        ("dimensions", r#"{"model": "x"}"#.to_owned(), 422, "unknown_dimension", "/dimensions"),
        ("time", quoted("2026-03-02T09:05:01Z"), 422, "time_in_future", "/time"),
        ("time", quoted("1969-12-31T23:59:59Z"), 400, "invalid_value", "/time"),
        ("quantity", "1e400".to_owned(), 400, "invalid_value", "/quantity"),
        ("quantity", String::new(), 400, "invalid_value", ""),
        ("operation_key", quoted("k"), 400, "invalid_value", "/operation_key"),
    ];
    members.extend(no_texts(255).into_iter().map(|text| ("id", text, 400, "invalid_value", "/id")));
    members.extend(no_texts(255).into_iter().map(|text| ("subject", text, 400, "invalid_value", "/subject")));
    let sent = |(name, value, status, code, pointer): (_, String, _, _, _)| {
        (post(app, "/v1/events", object(&good, name, &value)), status, code, pointer)
    };
    let mut cases: Vec<Case> = members.into_iter().map(sent).collect();
    let good = object(&good, "", "");
    let many = format!("[{}]", vec![good.as_str(); 1001].join(","));
    for (body, code, pointer) in [
        ("[]", "invalid_value", ""),
        (many.as_str(), "invalid_value", ""),
        ("null", "invalid_value", ""),
        ("[1]", "invalid_value", "/0"),
        ("[[]]", "invalid_value", "/0"),
        ("[", "invalid_json", ""),
        ("[{},]", "invalid_json", ""),
        ("[{}] []", "invalid_json", ""),
        ("", "invalid_json", ""),
    ] {
        cases.push((post(app, "/v1/events", body), 400, code, pointer));
    }
    cases
}

fn cloud_events(app: &TestApp) -> Vec<Case> {
    let good = [
        ("specversion", "\"1.0\""),
        ("id", "\"r1\""),
        ("source", "\"/agents\""),
        ("type", "\"llm.request\""),
        ("subject", "\"jane\""),
        ("data", r#"{"used_tokens": 1}"#),
    ];
    let mut cases = Vec::new();
    for (name, value, status, code, pointer) in [
        ("specversion", "\"0.3\"", 400, "invalid_value", "/specversion"),
        ("specversion", "1.0", 400, "invalid_value", "/specversion"),
        ("id", "", 400, "invalid_value", ""),
        ("id", "\"\"", 400, "invalid_value", "/id"),
        ("id", r#""\u0000""#, 400, "invalid_value", "/id"),
        ("source", "", 400, "invalid_value", ""),
        ("source", r#""\u0000""#, 400, "invalid_value", "/source"),
        ("type", "\"llm.answer\"", 422, "unknown_event_type", "/type"),
        ("type", r#""\u0000""#, 422, "unknown_event_type", "/type"),
        ("subject", "", 400, "invalid_value", "/customer"),
        ("subject", "\"nobody\"", 404, "unknown_customer", "/customer"),
        ("subject", "\"\"", 400, "invalid_value", "/customer"),
        ("customer", r#""\u0000""#, 400, "invalid_value", "/customer"),
        ("time", "\"now\"", 400, "invalid_value", "/time"),
        ("time", "\"1969-12-31T23:59:59Z\"", 400, "invalid_value", "/time"),
        ("time", "\"2026-03-02T09:05:01Z\"", 422, "time_in_future", "/time"),
        ("data", "", 400, "invalid_value", "/data"),
        ("data", "[]", 400, "invalid_value", "/data"),
        ("data", "null", 400, "invalid_value", "/data"),
        ("data", "{}", 400, "invalid_value", "/data"),
        ("data", r#"{"used_tokens": null}"#, 400, "invalid_value", "/data"),
        ("data", r#"{"used_tokens": "many"}"#, 400, "invalid_value", "/data/used_tokens"),
        ("data", r#"{"used_tokens": 1e400}"#, 400, "invalid_value", "/data/used_tokens"),
        ("data", r#"{"used_tokens": -1}"#, 400, "invalid_value", "/data/used_tokens"),
        ("data", r#"{"used_tokens": [1]}"#, 400, "invalid_value", "/data/used_tokens"),
        ("data", r#"{"used_tokens": 1, "used_tokens": 1000}"#, 400, "invalid_value", "/data"),
        ("data", r#"{"used_tokens": 1, "model": {}}"#, 400, "invalid_value", "/data/model"),
        ("data", r#"{"used_tokens": 1, "model": "\u0000"}"#, 400, "invalid_value", "/data/model"),
    ] {
        let request = app.request("POST", "/v1/events");
        let request = request.body("application/cloudevents+json", object(&good, name, value));
        cases.push((request, status, code, pointer));
    }
    cases
}

fn paths_and_queries(app: &TestApp) -> Vec<Case> {
    let charge = "/v1/charges/ch_00000000000000000000000000000000000";
    let mut cases = Vec::new();
    for (path, status, code, pointer) in [
        ("/", 404, "unknown_route", ""),
        ("/v1", 404, "unknown_route", ""),
        ("/v1/nothing", 404, "unknown_route", ""),
        ("/v1/customers/jane/", 404, "unknown_route", ""),
        ("/v1/customers//wallet", 400, "invalid_parameter", "customer"),
        (charge, 404, "unknown_charge", ""),
        ("/v1/charges/jane", 404, "unknown_charge", ""),
        ("/v1/charges/%00", 400, "invalid_parameter", "charge"),
        ("/v1/charges/%ff", 400, "invalid_parameter", "path"),
        ("/v1/holds/ch_00000000000000000000000000000000000", 404, "unknown_hold", ""),
        ("/v1/customers/nobody", 404, "unknown_customer", "customer"),
        ("/v1/customers/a%00b/wallet", 400, "invalid_parameter", "customer"),
        ("/v1/customers?limit=0", 400, "invalid_parameter", "limit"),
        ("/v1/customers?limit=501", 400, "invalid_parameter", "limit"),
        ("/v1/customers?limit=-1", 400, "invalid_parameter", "limit"),
        ("/v1/customers?limit=ten", 400, "invalid_parameter", ""),
        ("/v1/customers?limit=99999999999999999999", 400, "invalid_parameter", ""),
        ("/v1/customers?limit=1&limit=2", 400, "invalid_parameter", ""),
        ("/v1/customers?page=2", 400, "invalid_parameter", ""),
        ("/v1/customers?cursor=", 400, "invalid_parameter", "cursor"),
        ("/v1/customers?cursor=!", 400, "invalid_parameter", "cursor"),
        ("/v1/customers?cursor=eyJhIjoxfQ", 400, "invalid_parameter", "cursor"),
        ("/v1/customers/jane/charges?cursor=WzEsMl0", 400, "invalid_parameter", "cursor"),
        ("/v1/customers/jane/wallet/statement?asset=EUR", 422, "unknown_asset", "asset"),
        ("/v1/customers/jane/wallet/statement?asset=%00", 422, "unknown_asset", "asset"),
        ("/v1/customers/jane/usage?window=year", 400, "invalid_parameter", "window"),
        ("/v1/customers/jane/usage?group_by=colour", 400, "invalid_parameter", "group_by"),
        ("/v1/customers/jane/usage?group_by=dimension:", 400, "invalid_parameter", "group_by"),
        ("/v1/customers/jane/usage?group_by=dimension:$[", 400, "invalid_parameter", "group_by"),
        ("/v1/customers/jane/usage?group_by=dimension:$.model", 400, "invalid_parameter", "group_by"),
        ("/v1/customers/jane/usage?from=yesterday", 400, "invalid_parameter", ""),
        ("/v1/customers/jane/usage?to=1969-12-31T23:59:59Z", 400, "invalid_parameter", ""),
        ("/v1/customers/jane/usage?meter=%00", 400, "invalid_parameter", "meter"),
        ("/v1/customers/jane/usage?subject=%0A", 400, "invalid_parameter", "subject"),
    ] {
        cases.push((app.request("GET", path), status, code, pointer));
    }
    cases
}

fn headers_and_methods(app: &TestApp) -> Vec<Case> {
    let good = r#"{"customer": "jane", "meter": "minutes", "quantity": 1}"#;
    let charge = || post(app, "/v1/charges", good);
    let mut cases = vec![
        (charge().idempotency_key(""), 400, "idempotency_key_invalid", "Idempotency-Key"),
        (charge().anonymous(), 401, "credentials_missing", ""),
        (charge().bearer("fk_test_garbage"), 401, "key_unknown", ""),
        (charge().bearer("garbage"), 401, "token_malformed", ""),
        (charge().header("authorization", "Bearer another"), 401, "credentials_conflicting", ""),
        (charge().header("x-api-key", "twice"), 401, "credentials_malformed", ""),
        (charge().anonymous().header("authorization", "Basic amFuZTpqYW5l"), 401, "credentials_malformed", ""),
    ];
    for path in
        ["/v1/charges", "/v1/charges/batch", "/v1/events", "/v1/holds", "/v1/check", "/v1/customers/jane/grants"]
    {
        for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json", ""] {
            let request = app.request("POST", path).body(content_type, good);
            cases.push((request, 415, "unsupported_media_type", "Content-Type"));
        }
        cases.push((app.request("POST", path), 415, "unsupported_media_type", "Content-Type"));
    }
    for (method, path) in [
        ("DELETE", "/v1/customers/jane"),
        ("PATCH", "/v1/customers/jane"),
        ("GET", "/v1/charges"),
        ("PUT", "/v1/charges"),
        ("POST", "/v1/customers/jane/wallet"),
        ("OPTIONS", "/v1/events"),
        ("BREW", "/v1/holds"),
        ("POST", "/health"),
        ("POST", "/metrics"),
    ] {
        cases.push((app.request(method, path), 405, "method_not_allowed", ""));
    }
    cases
}

#[tokio::test]
async fn a_method_that_is_not_taken_is_answered_with_those_that_are() {
    let app = TestApp::start(crate::databases::Database::sqlite().await).await;
    for (path, allow) in [("/v1/customers/jane", "PUT,GET,HEAD"), ("/v1/charges", "POST"), ("/health", "GET,HEAD")] {
        let refused = app.request("DELETE", path).send().await;
        refused.refused(405, "method_not_allowed");
        let sorted = |list: &str| {
            let mut methods: Vec<String> = list.split(',').map(str::to_owned).collect();
            methods.sort();
            methods
        };
        assert_eq!(refused.header("allow").map(sorted), Some(sorted(allow)), "{path}");
    }
}

#[tokio::test]
async fn who_still_sends_a_body_that_is_refused_is_told_so() {
    let app = TestApp::start(crate::databases::Database::sqlite().await).await;
    let half = vec![b' '; 2 << 20];
    for (key, status) in [(app.admin_key.as_str(), "HTTP/1.1 413"), ("sk_unknown", "HTTP/1.1 401")] {
        let mut stream = TcpStream::connect(app.address).await.expect("the server listens");
        let head = format!(
            "POST /v1/charges HTTP/1.1\r\nHost: farthing\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            2 * half.len()
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        stream.write_all(&half).await.expect("it reads on");
        // Long enough for the answer to have been made.
        tokio::time::sleep(Duration::from_millis(200)).await;
        stream.write_all(&half).await.expect("it reads to the end");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with(status), "{answer}");
    }
}

#[tokio::test]
async fn who_never_ends_a_body_that_is_refused_is_cut_off() {
    let app = TestApp::start(crate::databases::Database::sqlite().await).await;
    let mut stream = TcpStream::connect(app.address).await.expect("the server listens");
    let head = "POST /v1/charges HTTP/1.1\r\nHost: farthing\r\nContent-Length: 1073741824\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let piece = vec![b' '; 1 << 20];
    let mut sent = 0;
    while stream.write_all(&piece).await.is_ok() {
        sent += 1;
        assert!(sent < 1024, "all of it was read");
    }
}
