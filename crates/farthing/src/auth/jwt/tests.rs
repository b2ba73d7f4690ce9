//! Tokens of all three algorithms against their verifier: accepted ones, and every way to be refused. The keys are real and
//! made for this file; the issuer is a real HTTP server on this machine, shared with the tests of `jwks`.

use jsonwebtoken::EncodingKey;
use serde_json::json;

use super::*;
use crate::auth::jwks::tests::{Issuer, ec_key, rsa_key};

const SECRET: &str = "a shared secret of thirty-two bytes or more";

/// Key pairs made for this file with `openssl` and used nowhere else: RSA as PKCS#1, P-256 as PKCS#8.
const RSA_PRIVATE: &str = concat!(
    "MIIEowIBAAKCAQEAzP15YP8KSUsqX6datvxp5Fo/nCEzwBToda7y/6xnNOsxMvyyf+laGYhwnq4AT3LxPm9IvjhxOT2NUuUzrzAn",
    "9f6fEGZW9Z+dK9nbXteiDqzFrmbc1zcdSkHwSe2Mwu/CrMb9XdTg+oVBcthYbJHap8ND0J2/18IdG6Udo2THDZYBMWD3oCmDTB1o",
    "KAJwBN7rYX+vXmdzfgiYHxZiyHHMQXyl1DqoxmO1+VDuVTecB6xb05AqBsppu3G6i58Z58nlaAjAsHzoL7ytXbTXaKsSbICRl12l",
    "82ixaMZbURBTsBzkSnkG4xK6/zAGRYJcApjLZHgqc3fEOS16GQu0lK53+QIDAQABAoIBAA+H07qg0AFyD62MEyAiew5ZNREJ5e8T",
    "VnJWFSSARhh5CjLz+L0eq5wcHXY0NiNO0M67ZS4+PfvJeUvSwCnxctGdHyWBr2xwEZsZKBjlKurENbzrH6exjgdKfB9Jv1ykiCIJ",
    "eHgzsPDiCC2gjQB6w29q6JglX3vEAesOhTKUJ82UUV97KEbFXcfgDDas6qLOp402NWKRlXZa4HTFlBjf1JqjsKG8CBL3G3kBkA7H",
    "t0tsCh22YUm/763QbV8MoZ2A3zY90u8WHaO01AwEwduhwgk5zO7JBw31Yzbn6kLlBfOWrrfNqw+lgCx0D+T+IEnbUhJdKOZ1Kydf",
    "wxvuHNeP8nUCgYEA58WDipUyhVCvsOXVdx8iiTomllnhs2uo2lEJ1IhAiKVpAnwWR1Mk+PxKURxQYLDtZ1Bs+8CqDXubgpHhjk02",
    "DPbhVHWepty4Xf5WTyXMJKBBXzIIVeo6XadXIpTSC3vyHUI2+PnxYiwwbKVtZS+JaFDNiqZyHY+VnZvJNcMpt3UCgYEA4mtB8EMx",
    "1+GHhCcWg/OaXLigQZEfpnnpUlmDNgYkOJCaS2B12kpJF35BRXcYIYooeuy6pW5yQ7HW9OmJvxqIdzxeit+EY+c/qpmaAtwYoHyp",
    "gICVeOweMYF4PFdhagHkDKZNlakQ24oy5UV+KtW1sS2dOzEN+NGHiz/NvYsCsfUCgYACRwqX3gd1D+nqDxgd54xrVMr0R0XUgYZT",
    "PuCd2gjoTtfNUnLVmJeQaspAKcsQaCytCzlG8Am7wC8zBUP2JgQV9IcaUV2RvjGBmvI2LOTopzp9OPyj+30/Vlmg2V2HB1zFtNTd",
    "dXdNw6lmJ+n/SIxNHh4m8qPEbpjFx7YedSB/0QKBgQDXlMhzu4b5xgMCETWe7ZNMNX5g74zzNaCyiAgmqDJUqVo/6thLv+9YLx52",
    "xa50QNfKMxyD52Vkjy/cgYBmNR06aoCaObgUZ1p3VUkO8AGCzS+W6tdnC2q0OFIDIi/ef25jnPTCSveCEVPkeQZoQpN837GVal+j",
    "Sd2E+Hssve8TAQKBgDMrW6Y5OGDEdxPoxS9eoA5bJC36cC0czK7njsc4AG4k0iLtJ7tuFn1oigZ6q23us6DNnvVgTYi3xdqTj5JZ",
    "Kt3ut5Q2bqKp2+3dGYz0bgNTKws5bOoDud+v7HXRoEajDH+alcl25u1b4Pgsf0ZIzxZGqW8Oz7edW5XSH08PAKeJ",
);
const EC_PRIVATE: &str = concat!(
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgT7mOHNoWg/PeT3iRAtb4tChpZzJget3ZEzM5V1kLWe2hRANCAATe",
    "j0nzC52Cmyix9uH0sdMnXegcZZT9ez12Jj3VkETj/jxYaMr2svEEt73bH2SJdpd/JWs+Jywqp/3IQUJEdpR/",
);

/// 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn private_key(algorithm: Algorithm) -> EncodingKey {
    let der = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    match algorithm {
        Algorithm::Hs256 => EncodingKey::from_secret(SECRET.as_bytes()),
        Algorithm::Rs256 => EncodingKey::from_rsa_der(&der(RSA_PRIVATE)),
        Algorithm::Es256 => EncodingKey::from_ec_der(&der(EC_PRIVATE)),
    }
}

/// A token with any header at all, signed with the key of `algorithm`.
fn sign(algorithm: Algorithm, header: Value, claims: Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &private_key(algorithm), algorithm.into()).unwrap();
    format!("{message}.{signature}")
}

fn hs256(claims: Value) -> String {
    sign(Algorithm::Hs256, json!({"alg": "HS256"}), claims)
}

fn key_file(keys: Value) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({"keys": keys}).to_string()).unwrap();
    file
}

/// A verifier that accepts what [`private_key`] signs, without leeway.
fn verifier(algorithm: Algorithm) -> JwtVerifier {
    let file = key_file(json!([rsa_key("rs-1"), ec_key("es-1")]));
    let source = match algorithm {
        Algorithm::Hs256 => KeySource::Secret(SECRET.into()),
        Algorithm::Rs256 | Algorithm::Es256 => KeySource::JwksFile(file.path().into()),
    };
    JwtVerifier::new(JwtSettings { leeway_seconds: 0, ..JwtSettings::new(algorithm, source) }).unwrap()
}

/// A verifier of HS256 tokens without leeway, and otherwise as the example says.
fn hs256_with(change: impl FnOnce(&mut JwtSettings)) -> JwtVerifier {
    let mut settings = JwtSettings::new(Algorithm::Hs256, KeySource::Secret(SECRET.into()));
    settings.leeway_seconds = 0;
    change(&mut settings);
    JwtVerifier::new(settings).unwrap()
}

/// The customer, or the code of the refusal.
async fn outcome(verifier: &JwtVerifier, token: &str, now: i64) -> Result<String, &'static str> {
    let claims = verifier.verify(token, at(now)).await.map_err(|error| error.code())?;
    claims.require_customer().map(str::to_owned).map_err(|error| error.code())
}

fn good() -> Value {
    json!({"sub": "alice", "exp": NOW + 60})
}

#[tokio::test]
async fn tokens_signed_by_another_implementation_are_verified() {
    for (algorithm, token) in [
        (
            Algorithm::Hs256,
            concat!(
                "eyJ0eXAiOiAiSldUIiwgImFsZyI6ICJIUzI1NiJ9.eyJpc3MiOiAiaHR0cHM6Ly9pc3N1ZXIuZXhhbXBsZSIsICJzd",
                "WIiOiAiYWxpY2UiLCAiZXhwIjogMTc2NzIyOTIwMH0.Va7IJKDGXYveImrxs3_kHYLsAKOM6S00hbQcWxIV8Tg",
            ),
        ),
        (
            Algorithm::Rs256,
            concat!(
                "eyJ0eXAiOiAiSldUIiwgImFsZyI6ICJSUzI1NiIsICJraWQiOiAicnMtMSJ9.eyJpc3MiOiAiaHR0cHM6Ly9pc3N1Z",
                "XIuZXhhbXBsZSIsICJzdWIiOiAiYWxpY2UiLCAiZXhwIjogMTc2NzIyOTIwMH0.oAxpcEy8M6hppgMKS9EpPRDUOhX",
                "FkCGTzmggUSNMbRnl1eVtIkxdIayNe31m0BLZzFhrN-rV-1pJYdPZDWB1KETg9Fr7Nk6dN_4P3Ygc2-UR8qu3bQPRO",
                "Bl63crwN4jCYG4mT-Bn8DsacrAYFyrQf5rIrFUr0AgT_2CnoOYHnqhGbAeinpeDAf96yy20AL8uNYla9dWLWk69d6l",
                "TnGF38ou6jj1jP19HXuvNY08acGDMpcmF6NMpkRSEJEfqHcKliEJ7ffZDYgWyFWFB-1J287Lje5f593dgZLcIlvyMu",
                "eWQmOHPDIQA9uSOe3fwFLPVfCFLusd0WCe3mNsPuKZQ5g",
            ),
        ),
        (
            Algorithm::Es256,
            concat!(
                "eyJ0eXAiOiAiSldUIiwgImFsZyI6ICJFUzI1NiIsICJraWQiOiAiZXMtMSJ9.eyJpc3MiOiAiaHR0cHM6Ly9pc3N1Z",
                "XIuZXhhbXBsZSIsICJzdWIiOiAiYWxpY2UiLCAiZXhwIjogMTc2NzIyOTIwMH0.3TmGbMoKnbyER0e428Y6-LMC34M",
                "bTxa7e0-bHABNS59gmCQLuVPc2phDxqpfNZlddQRKnmi2Z3lpu-qqGBO4AA",
            ),
        ),
    ] {
        let claims = verifier(algorithm).verify(token, at(NOW)).await.unwrap();
        assert_eq!(claims.customer.as_deref(), Some("alice"), "{algorithm}");
        assert_eq!(claims.all["iss"], "https://issuer.example", "{algorithm}");
    }
}

#[tokio::test]
async fn the_header_must_name_the_algorithm_of_the_tenant() {
    use Algorithm::{Es256, Hs256, Rs256};
    for (accepted, alg, signed_with) in [
        (Rs256, "HS256", Hs256),
        (Rs256, "ES256", Es256),
        (Rs256, "RS512", Rs256),
        (Es256, "HS256", Hs256),
        (Es256, "RS256", Rs256),
        (Hs256, "RS256", Rs256),
        (Hs256, "HS512", Hs256),
        (Hs256, "none", Hs256),
        (Hs256, "hs256", Hs256),
        (Hs256, "", Hs256),
    ] {
        let token = sign(signed_with, json!({"alg": alg}), good());
        assert_eq!(outcome(&verifier(accepted), &token, NOW).await, Err("token_algorithm"), "{alg} for {accepted}");
    }
}

#[tokio::test]
async fn a_public_key_cannot_be_used_as_a_shared_secret() {
    let modulus = rsa_key("rs-1")["n"].as_str().unwrap().to_owned();
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"rs-1"}"#),
        URL_SAFE_NO_PAD.encode(good().to_string())
    );
    for secret in [modulus.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(&modulus).unwrap()] {
        let key = EncodingKey::from_secret(&secret);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
        let token = format!("{message}.{signature}");
        assert_eq!(outcome(&verifier(Algorithm::Rs256), &token, NOW).await, Err("token_algorithm"));
    }
}

#[tokio::test]
async fn an_unsigned_token_is_refused() {
    let unsigned = |alg: &str| {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string());
        format!("{header}.{}.", URL_SAFE_NO_PAD.encode(good().to_string()))
    };
    for alg in ["none", "None", "NONE"] {
        for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256] {
            assert_eq!(outcome(&verifier(algorithm), &unsigned(alg), NOW).await, Err("token_algorithm"));
        }
    }
    for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256] {
        let stripped = unsigned(algorithm.name());
        assert_eq!(outcome(&verifier(algorithm), &stripped, NOW).await, Err("token_signature"), "{algorithm}");
    }
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256] {
        let token = sign(algorithm, json!({"alg": algorithm.name()}), good());
        let parts: Vec<&str> = token.split('.').collect();
        let payload = URL_SAFE_NO_PAD.encode(json!({"sub": "mallory", "exp": NOW + 60}).to_string());
        let changed = format!("{}.{payload}.{}", parts[0], parts[2]);
        assert_eq!(outcome(&verifier(algorithm), &token, NOW).await, Ok("alice".into()), "{algorithm}");
        assert_eq!(outcome(&verifier(algorithm), &changed, NOW).await, Err("token_signature"), "{algorithm}");
    }
    let other_secret = hs256_with(|settings| settings.source = KeySource::Secret("x".repeat(32)));
    assert_eq!(outcome(&other_secret, &hs256(good()), NOW).await, Err("token_signature"));
}

#[tokio::test]
async fn garbage_is_malformed() {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let valid = hs256(good());
    for token in [
        String::new(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        "fk_test_abc".into(),
        format!("{valid}.{valid}"),
        format!("{valid}="),
        valid.replace('.', "+"),
        format!("{}.{}.é", part(r#"{"alg":"HS256"}"#), part("{}")),
        format!("{}.{}.", part("[]"), part("{}")),
        format!("{}.{}.", part(r#"{"typ":"JWT"}"#), part("{}")),
        format!("{}.{}.", part(r#"{"alg":256}"#), part("{}")),
        sign(Algorithm::Hs256, json!({"alg": "HS256", "kid": 7}), good()),
        sign(Algorithm::Hs256, json!({"alg": "HS256", "crit": ["exp"]}), good()),
        hs256(json!("not an object")),
    ] {
        assert_eq!(outcome(&verifier(Algorithm::Hs256), &token, NOW).await, Err("token_malformed"), "{token}");
    }
}

#[tokio::test]
async fn times_are_judged_by_the_time_handed_in() {
    let expires = |leeway| (hs256_with(move |settings| settings.leeway_seconds = leeway), "exp", NOW);
    let begins = |leeway| (hs256_with(move |settings| settings.leeway_seconds = leeway), "nbf", NOW);
    for ((verifier, claim, instant), now, expected) in [
        (expires(0), NOW - 1, Ok("alice".to_owned())),
        (expires(0), NOW, Err("token_expired")),
        (expires(30), NOW + 29, Ok("alice".to_owned())),
        (expires(30), NOW + 30, Err("token_expired")),
        (begins(0), NOW, Ok("alice".to_owned())),
        (begins(0), NOW - 1, Err("token_not_yet_valid")),
        (begins(30), NOW - 30, Ok("alice".to_owned())),
        (begins(30), NOW - 31, Err("token_not_yet_valid")),
    ] {
        let mut claims = json!({"sub": "alice", "exp": NOW + 3600});
        claims[claim] = instant.into();
        assert_eq!(outcome(&verifier, &hs256(claims), now).await, expected, "{claim} {}", now - NOW);
    }
}

#[tokio::test]
async fn an_expiry_is_required_and_is_a_number_of_seconds() {
    for (expires, expected) in [
        (json!(NOW + 1), Ok("alice".to_owned())),
        (serde_json::from_str("1767225601.75").unwrap(), Ok("alice".to_owned())),
        (serde_json::from_str("1767225600.75").unwrap(), Err("token_expired")),
        (json!(i64::MAX), Ok("alice".to_owned())),
        (json!(-1), Err("token_expired")),
        (Value::Null, Err("token_claim_missing")),
        (json!((NOW + 60).to_string()), Err("token_malformed")),
        (json!(u64::MAX), Err("token_malformed")),
        (serde_json::from_str("1e300").unwrap(), Err("token_malformed")),
    ] {
        let token = hs256(json!({"sub": "alice", "exp": expires}));
        assert_eq!(outcome(&verifier(Algorithm::Hs256), &token, NOW).await, expected, "{expires}");
    }
    let without = hs256(json!({"sub": "alice"}));
    assert_eq!(outcome(&verifier(Algorithm::Hs256), &without, NOW).await, Err("token_claim_missing"));
}

#[tokio::test]
async fn issuer_and_audience_must_be_the_tenants() {
    let verifier = hs256_with(|settings| {
        settings.issuer = Some("https://issuer.example".into());
        settings.audience = Some("billing".into());
    });
    let issuer = "https://issuer.example";
    for (iss, aud, expected) in [
        (json!(issuer), json!("billing"), Ok("alice".to_owned())),
        (json!(issuer), json!(["app", "billing"]), Ok("alice".to_owned())),
        (json!("https://issuer.example.evil"), json!("billing"), Err("token_issuer")),
        (json!([issuer]), json!("billing"), Err("token_issuer")),
        (Value::Null, json!("billing"), Err("token_claim_missing")),
        (json!(issuer), json!("app"), Err("token_audience")),
        (json!(issuer), json!(["app", "billing2"]), Err("token_audience")),
        (json!(issuer), json!([]), Err("token_audience")),
        (json!(issuer), Value::Null, Err("token_claim_missing")),
    ] {
        let token = hs256(json!({"sub": "alice", "exp": NOW + 60, "iss": iss, "aud": aud}));
        assert_eq!(outcome(&verifier, &token, NOW).await, expected, "{iss} {aud}");
    }
}

#[tokio::test]
async fn the_customer_is_in_the_claim_that_the_tenant_names() {
    let verifier = hs256_with(|settings| settings.customer_claim = "org_id".into());
    for (org_id, expected) in [
        (json!("acme"), Ok("acme".to_owned())),
        (json!(42), Ok("42".to_owned())),
        (json!(""), Err("token_claim_missing")),
        (Value::Null, Err("token_claim_missing")),
        (json!({"id": "acme"}), Err("token_malformed")),
        (json!(true), Err("token_malformed")),
        (serde_json::from_str("4.2").unwrap(), Err("token_malformed")),
    ] {
        let token = hs256(json!({"sub": "alice", "exp": NOW + 60, "org_id": org_id}));
        assert_eq!(outcome(&verifier, &token, NOW).await, expected, "{org_id}");
    }
    assert_eq!(outcome(&verifier, &hs256(good()), NOW).await, Err("token_claim_missing"));
}

#[tokio::test]
async fn the_key_id_chooses_among_the_keys_of_a_file() {
    let verifier = verifier(Algorithm::Es256);
    for (header, expected) in [
        (json!({"alg": "ES256", "kid": "es-1"}), Ok("alice".to_owned())),
        (json!({"alg": "ES256"}), Ok("alice".to_owned())),
        (json!({"alg": "ES256", "kid": "es-2"}), Err("token_signature")),
        (json!({"alg": "ES256", "kid": "rs-1"}), Err("token_signature")),
    ] {
        let token = sign(Algorithm::Es256, header.clone(), good());
        assert_eq!(outcome(&verifier, &token, NOW).await, expected, "{header}");
    }
}

#[tokio::test]
async fn a_new_key_of_the_issuer_is_fetched_from_its_url() {
    let issuer = Issuer::serving(&[ec_key("old")]).await;
    let source = KeySource::JwksUrl(issuer.url.clone());
    let verifier = JwtVerifier::new(JwtSettings::new(Algorithm::Es256, source)).unwrap();
    let token = |kid: &str| sign(Algorithm::Es256, json!({"alg": "ES256", "kid": kid}), good());

    assert_eq!(outcome(&verifier, &token("old"), NOW).await, Ok("alice".into()));
    issuer.serve(&[ec_key("new")]);
    assert_eq!(outcome(&verifier, &token("new"), NOW + 30).await, Ok("alice".into()));
    assert_eq!(outcome(&verifier, &token("old"), NOW + 30).await, Err("token_signature"));
    assert_eq!(issuer.requests(), 2);
}

#[tokio::test]
async fn without_the_issuers_keys_a_token_is_not_called_invalid() {
    let unbound = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let source = KeySource::JwksUrl(format!("http://{unbound}/jwks.json"));
    let verifier = JwtVerifier::new(JwtSettings::new(Algorithm::Rs256, source)).unwrap();
    let token = sign(Algorithm::Rs256, json!({"alg": "RS256", "kid": "rs-1"}), good());
    assert_eq!(outcome(&verifier, &token, NOW).await, Err("token_keys_unavailable"));
}

#[tokio::test]
async fn neither_errors_nor_debug_output_repeat_a_token() {
    let verifier = hs256_with(|settings| settings.issuer = Some("https://issuer.example".into()));
    let marked = |mut claims: Value| {
        claims["sub"] = "alice-the-customer".into();
        hs256(claims)
    };
    for token in [
        marked(json!({"exp": NOW - 1})),
        marked(json!({"exp": "alice-the-customer"})),
        marked(json!({"exp": NOW + 60, "nbf": NOW + 60})),
        marked(json!({"exp": NOW + 60, "iss": "alice-the-customer"})),
        sign(Algorithm::Hs256, json!({"alg": "alice-the-customer"}), good()),
    ] {
        let error = verifier.verify(&token, at(NOW)).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("alice-the-customer"), "{error:?}");
    }
    let accepted = marked(json!({"exp": NOW + 60, "iss": "https://issuer.example"}));
    let claims = verifier.verify(&accepted, at(NOW)).await.unwrap();
    assert_eq!(format!("{claims:?}"), "Claims(redacted)");
    assert!(!format!("{:?}", verifier.settings).contains(SECRET));
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    let refusal = |algorithm, source| JwtVerifier::new(JwtSettings::new(algorithm, source)).err().unwrap();
    let other_algorithms = key_file(json!([ec_key("es-1")]));
    let url = |text: &str| KeySource::JwksUrl(text.into());

    let short = refusal(Algorithm::Hs256, KeySource::Secret("x".repeat(31)));
    assert!(matches!(short, JwtSettingsError::SecretTooShort { bytes: 31 }));
    let mismatch = refusal(Algorithm::Rs256, KeySource::Secret(SECRET.into()));
    assert!(matches!(mismatch, JwtSettingsError::SourceMismatch(Algorithm::Rs256)));
    let mismatch = refusal(Algorithm::Hs256, url("https://issuer.example/jwks.json"));
    assert!(matches!(mismatch, JwtSettingsError::SourceMismatch(Algorithm::Hs256)));
    let absent = refusal(Algorithm::Es256, KeySource::JwksFile("no/such/file.json".into()));
    assert!(matches!(absent, JwtSettingsError::File { cause: KeySetError::File(_), .. }));
    let useless = refusal(Algorithm::Rs256, KeySource::JwksFile(other_algorithms.path().into()));
    assert!(matches!(useless, JwtSettingsError::File { cause: KeySetError::NoUsableKey(_), .. }));
    for text in ["issuer.example/jwks.json", "http://issuer.example/jwks.json", "file:///etc/passwd", ""] {
        assert!(matches!(refusal(Algorithm::Es256, url(text)), JwtSettingsError::Url), "{text}");
    }
    assert!(JwtVerifier::new(JwtSettings::new(Algorithm::Es256, url("https://issuer.example/keys"))).is_ok());
}

#[test]
fn algorithms_are_written_as_in_a_token() {
    for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256] {
        assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.name());
    }
}
