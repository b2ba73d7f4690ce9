//! The origins of pages, as an engineer or an environment writes them.

use insta::assert_snapshot;

use super::*;

fn origins(fields: &str) -> Result<Vec<String>, String> {
    read(&format!("{START}\n[browser]\n{fields}\n")).map(|tenant| tenant.origins)
}

#[test]
fn origins_are_read_from_the_file_or_the_environment() {
    assert_eq!(read(START).unwrap().origins, [] as [String; 0]);
    assert_eq!(origins(r#"origins = ["https://app.acme.example", "http://localhost:5173"]"#).unwrap().len(), 2);
    assert_eq!(origins(r#"origins = ["*"]"#).unwrap(), ["*"]);
    let with = |value: &'static str| {
        let file =
            format!("{START}\n[browser]\norigins = [\"*\"]\norigins_env = [\"CORS_ORIGINS\", \"FRONTEND_URL\"]\n");
        let environment = move |name: &str| (name == "FRONTEND_URL").then(|| value.to_owned());
        parse(&file, "acme.toml", &environment).map(|tenant| tenant.origins).map_err(|errors| errors[0].to_string())
    };
    assert_eq!(
        with("http://localhost:5173/, https://a.example").unwrap(),
        ["http://localhost:5173", "https://a.example"]
    );
    assert_eq!(with("").unwrap(), ["*"]);
    assert_snapshot!(with("localhost").unwrap_err(), @"acme.toml:12:32: `localhost` is not an origin; write it as browsers send it, as in `https://app.example.com`, without a path; `*` is every origin");
}

#[test]
fn what_is_no_origin_is_told() {
    for (wrong, told) in
        [("https://a.example/app", "/app"), ("https://", "https://"), ("null", "null"), ("ftp://a", "ftp")]
    {
        let mistake = origins(&format!("origins = [\"{wrong}\"]")).unwrap_err();
        assert!(mistake.contains("is not an origin") && mistake.contains(told), "{mistake}");
    }
    let many: Vec<String> = (0..51).map(|number| format!("\"https://a{number}.example\"")).collect();
    assert_snapshot!(origins(&format!("origins = [{}]", many.join(", "))).unwrap_err(), @"acme.toml:11:1152: [browser] has more than 50 origins; leave some out");
}
