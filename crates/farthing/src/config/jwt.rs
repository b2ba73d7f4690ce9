//! `[jwt]`: the tokens with which a product's own users read their billing.
//!
//! A shared secret comes from the environment and never stands in the file, nor in an error.

use std::error::Error as _;
use std::path::Path;

use toml::Spanned;

use super::section::Section;
use crate::auth::{Algorithm, JwtSettings, JwtSettingsError, JwtVerifier, KeySource};

const ALGORITHMS: [(&str, Algorithm); 3] =
    [("HS256", Algorithm::Hs256), ("RS256", Algorithm::Rs256), ("ES256", Algorithm::Es256)];
const MOST_LEEWAY_SECONDS: i64 = 300;

/// What the reading of `[jwt]` needs from outside the file.
pub(crate) struct Surroundings<'e> {
    /// The directory that a relative `jwks_file` starts from.
    pub(crate) directory: &'e Path,
    /// The value of an environment variable.
    pub(crate) environment: &'e dyn Fn(&str) -> Option<String>,
}

/// Reads the settings, and tries them: a key file is opened, nothing is fetched.
pub(crate) fn read_jwt(root: &mut Section<'_>, surroundings: &Surroundings<'_>) -> Option<JwtSettings> {
    let mut section = root.section("jwt", "[jwt]")?;
    section.require("algorithm", "algorithm = \"HS256\"");
    let algorithm = section.choice("algorithm", &ALGORITHMS);
    let source = read_source(&mut section, algorithm, surroundings);
    let customer_claim = section.string("customer_claim");
    let issuer = section.string("issuer");
    let audience = section.string("audience");
    let leeway = section.integer("leeway_seconds", 0..=MOST_LEEWAY_SECONDS);
    let problems = section.problems;
    section.finish();
    let source = source?;
    let mut settings = JwtSettings::new(algorithm?, source.get_ref().clone());
    settings.customer_claim = customer_claim.unwrap_or(settings.customer_claim);
    settings.issuer = issuer;
    settings.audience = audience;
    settings.leeway_seconds = leeway.and_then(|leeway| u32::try_from(leeway).ok()).unwrap_or(settings.leeway_seconds);
    if let Err(error) = JwtVerifier::new(settings.clone()) {
        problems.add(source.span().start, with_causes(&error), remedy(&error));
    }
    Some(settings)
}

/// Where the keys come from: the one of three fields that fits the algorithm.
fn read_source(
    section: &mut Section<'_>,
    algorithm: Option<Algorithm>,
    surroundings: &Surroundings<'_>,
) -> Option<Spanned<KeySource>> {
    let secret = section.text("secret_env").and_then(|name| read_secret(section, &name, surroundings));
    let file = section
        .text("jwks_file")
        .map(|file| Spanned::new(file.span(), KeySource::JwksFile(surroundings.directory.join(file.get_ref()))));
    let url = section.text("jwks_url").map(|url| Spanned::new(url.span(), KeySource::JwksUrl((*url.get_ref()).into())));
    match algorithm? {
        Algorithm::Hs256 => {
            for field in ["jwks_file", "jwks_url"] {
                section.refuse(
                    field,
                    format!("HS256 has no `{field}`"),
                    "it takes `secret_env`, or use RS256 or ES256",
                );
            }
            if !section.has("jwks_file") && !section.has("jwks_url") {
                section.require("secret_env", "secret_env = \"JWT_SECRET\"");
            }
            secret
        }
        algorithm => {
            section.refuse(
                "secret_env",
                format!("{algorithm} has no `secret_env`"),
                "it takes `jwks_file` or `jwks_url`, or use HS256",
            );
            if section.has("jwks_file") {
                let remedy = "leave one out: the keys come from one place";
                section.refuse("jwks_url", "[jwt] has both `jwks_file` and `jwks_url`", remedy);
                return file;
            }
            if !section.has("secret_env") {
                section.require("jwks_url", "jwks_url = \"https://issuer.example/.well-known/jwks.json\"");
            }
            url
        }
    }
}

/// The secret in an environment variable. A name that cannot be one is not repeated, since it may be the secret itself.
fn read_secret(
    section: &Section<'_>,
    name: &Spanned<&str>,
    surroundings: &Surroundings<'_>,
) -> Option<Spanned<KeySource>> {
    let variable = *name.get_ref();
    let at = name.span().start;
    let spelled = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    if !variable.chars().all(spelled) || variable.starts_with(|letter: char| letter.is_ascii_digit()) {
        let remedy =
            "it is the variable's name in capitals, as in `secret_env = \"JWT_SECRET\"`, never the secret itself";
        section.problems.add(at, "`secret_env` is not the name of an environment variable", remedy);
        return None;
    }
    match (surroundings.environment)(variable) {
        Some(secret) if !secret.is_empty() => Some(Spanned::new(name.span(), KeySource::Secret(secret))),
        _ => {
            let remedy = "set it to the secret that the issuer of the tokens signs them with";
            section.problems.add(at, format!("the environment variable `{variable}` is not set"), remedy);
            None
        }
    }
}

fn with_causes(error: &JwtSettingsError) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

const fn remedy(error: &JwtSettingsError) -> &'static str {
    match error {
        JwtSettingsError::SourceMismatch(_) => "choose the algorithm that the issuer of the tokens uses",
        JwtSettingsError::SecretTooShort { .. } => "put the longer one into the variable and give it to the issuer",
        JwtSettingsError::Url => "write it like `jwks_url = \"https://issuer.example/.well-known/jwks.json\"`",
        JwtSettingsError::File { .. } => {
            "put the issuer's JSON Web Key Set there; the path starts from the tenant file"
        }
        JwtSettingsError::Client(_) => "install the system's root certificates",
    }
}
