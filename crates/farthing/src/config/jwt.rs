//! `[jwt]`: the tokens with which a product's own users read their billing.
//!
//! A shared secret comes from the environment and never stands in the file, nor in an error.

use std::error::Error as _;
use std::path::Path;

use toml::Spanned;

use super::section::Section;
use super::tenant::Mode;
use crate::auth::{Algorithm, JwtSettings, JwtSettingsError, JwtVerifier, KeySource};

const ALGORITHMS: [(&str, Algorithm); 3] =
    [("HS256", Algorithm::Hs256), ("RS256", Algorithm::Rs256), ("ES256", Algorithm::Es256)];
const MOST_LEEWAY_SECONDS: i64 = 300;

/// What the reading of `[jwt]` needs from outside the file.
pub(crate) struct Surroundings<'e> {
    /// The directory that a relative `jwks_file` starts from.
    pub(crate) directory: &'e Path,
}

/// Reads the settings, and tries them: a key file is opened, nothing is fetched.
pub(crate) fn read_jwt(root: &mut Section<'_>, mode: Mode, surroundings: &Surroundings<'_>) -> Option<JwtSettings> {
    let mut section = root.section("jwt", "[jwt]")?;
    section.require("algorithm", "algorithm = \"HS256\"");
    let algorithm = section.choice("algorithm", &ALGORITHMS);
    let source = read_source(&mut section, algorithm, surroundings);
    let claims = ["customer_claim", "user_claim", "email_claim", "role_claim"].map(|claim| section.string(claim));
    let allow_short_secret = section.flag("allow_short_secret");
    if mode == Mode::Live && allow_short_secret {
        let problem = "`allow_short_secret` is for test mode: a short secret can be guessed from a single token";
        section.refuse("allow_short_secret", problem, "take it out and use a secret of at least 32 bytes");
    }
    let issuer = section.string("issuer");
    let audience = section.string("audience");
    let leeway = section.integer("leeway_seconds", 0..=MOST_LEEWAY_SECONDS);
    let problems = section.problems;
    section.finish();
    let source = source?;
    let mut settings = JwtSettings::new(algorithm?, source.get_ref().clone());
    let [customer, user, email, role] = claims;
    settings.customer_claim = customer.unwrap_or(settings.customer_claim);
    settings.user_claim = user.unwrap_or(settings.user_claim);
    settings.email_claim = email.unwrap_or(settings.email_claim);
    settings.role_claim = role.unwrap_or(settings.role_claim);
    settings.allow_short_secret = allow_short_secret && mode == Mode::Test;
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
    let secret = read_secret(section);
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

/// The secret in an environment variable.
fn read_secret(section: &mut Section<'_>) -> Option<Spanned<KeySource>> {
    let names = section.variables("secret_env");
    let first = names.first()?;
    if let Some((name, secret)) = section.first_set(&names) {
        return Some(Spanned::new(name.span(), KeySource::Secret(secret)));
    }
    let remedy = "set it to the secret that the issuer of the tokens signs them with";
    let problem = format!("the environment variable `{}` is not set", first.get_ref());
    section.problems.add(first.span().start, problem, remedy);
    None
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
