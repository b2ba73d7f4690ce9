//! `[connection]`: the payment provider. Keys and secrets come from the environment and never stand in the file.

use toml::Spanned;

use super::jwt::Surroundings;
use super::section::{NamePattern, Section};
use super::tenant::Mode;
use crate::auth::Secret;

/// A tenant's configured provider.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// Its name, in the path of its webhook; the tenant's where the file names none.
    pub name: Option<String>,
    /// The secret key; without one, a tenant in test mode talks to the built-in sandbox.
    pub secret_key: Option<Secret>,
    /// The key that browsers use.
    pub publishable_key: Option<String>,
    /// What webhooks are signed with; several while a secret is being changed.
    pub webhook_secrets: Vec<Secret>,
    /// Where the provider is, when it is not where it usually is.
    pub url: Option<String>,
}

const PROVIDERS: [(&str, ()); 1] = [("stripe", ())];

/// Reads the settings. An environment variable that is named and not set is a mistake in live mode alone: on a
/// developer's machine the sandbox takes the provider's place.
pub(crate) fn read_connection(
    root: &mut Section<'_>,
    mode: Mode,
    surroundings: &Surroundings<'_>,
) -> ConnectionSettings {
    let mut settings = ConnectionSettings {
        name: None,
        secret_key: None,
        publishable_key: None,
        webhook_secrets: Vec::new(),
        url: None,
    };
    let Some(mut section) = root.section("connection", "[connection]") else { return settings };
    section.require("provider", "provider = \"stripe\"");
    section.choice("provider", &PROVIDERS);
    settings.name = section.name("name", &NamePattern::SLUG).map(|name| name.into_inner().to_owned());
    if mode == Mode::Live {
        for (field, example) in [
            ("secret_key_env", "secret_key_env = \"STRIPE_SECRET_KEY\""),
            ("webhook_secret_env", "webhook_secret_env = \"STRIPE_WEBHOOK_SECRET\""),
        ] {
            section.require(field, example);
        }
    }
    let missing = "set it; a live tenant has no sandbox";
    let mut read = |field| variable(&mut section, field, (mode, missing), surroundings);
    settings.secret_key = read("secret_key_env").map(Secret::new);
    settings.publishable_key = read("publishable_key_env");
    let secrets = read("webhook_secret_env").unwrap_or_default();
    settings.webhook_secrets = secrets
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| Secret::new(text.to_owned()))
        .collect();
    let url = section.text("url");
    if let Some(url) = url.as_ref().filter(|url| !url.get_ref().starts_with("http")) {
        section.problems.add(
            url.span().start,
            "`url` is no address",
            "write it like `url = \"http://127.0.0.1:12111\"`",
        );
    }
    settings.url = url.map(|url| url.into_inner().trim_end_matches('/').to_owned());
    section.finish();
    settings
}

/// The value of the environment variable that a field names. A name that cannot be one is not repeated, since it may be
/// the secret itself. Where it is not set, that is a mistake in live mode, with this remedy.
pub(crate) fn variable(
    section: &mut Section<'_>,
    field: &'static str,
    (mode, missing): (Mode, &str),
    surroundings: &Surroundings<'_>,
) -> Option<String> {
    let name: Spanned<&str> = section.text(field)?;
    let (at, variable) = (name.span().start, *name.get_ref());
    let spelled = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    if !variable.chars().all(spelled) || variable.starts_with(|letter: char| letter.is_ascii_digit()) {
        let remedy =
            format!("it is the variable's name in capitals, as in `{field} = \"STRIPE_KEY\"`, never what it holds");
        section.problems.add(at, format!("`{field}` is not the name of an environment variable"), remedy);
        return None;
    }
    let value =
        (surroundings.environment)(variable).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    if value.is_none() && mode == Mode::Live {
        section.problems.add(at, format!("the environment variable `{variable}` is not set"), missing);
    }
    value
}
