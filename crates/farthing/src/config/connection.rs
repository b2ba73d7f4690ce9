//! `[connection]`: the payment provider. Keys and secrets come from the environment and never stand in the file.

use super::error::suggestion;
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
pub(crate) fn read_connection(root: &mut Section<'_>, mode: Mode) -> ConnectionSettings {
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
    let names = section.variables("provider_env");
    if let Some((name, _)) =
        section.first_set(&names).filter(|(_, word)| !PROVIDERS.iter().any(|(known, ())| known == word))
    {
        let problem = format!("the environment variable `{}` names a provider that there is not", name.get_ref());
        section.problems.add(name.span().start, problem, suggestion("", PROVIDERS.map(|(known, ())| known)));
    }
    settings.name = section.name("name", &NamePattern::SLUG).map(|name| name.into_inner().to_owned());
    if mode == Mode::Live {
        for (field, example) in [
            ("secret_key_env", "secret_key_env = \"STRIPE_SECRET_KEY\""),
            ("webhook_secret_env", "webhook_secret_env = \"STRIPE_WEBHOOK_SECRET\""),
        ] {
            section.require(field, example);
        }
    }
    let mut read = |field| variable(&mut section, field, (mode, "set it; a live tenant has no sandbox"));
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

/// The value of the environment variable that a field names, or of the first that is set of several. Where none is, that is
/// a mistake in live mode, with this remedy.
pub(crate) fn variable(
    section: &mut Section<'_>,
    field: &'static str,
    (mode, missing): (Mode, &str),
) -> Option<String> {
    let names = section.variables(field);
    let first = names.first()?;
    let found = section.first_set(&names).map(|(_, value)| value);
    if found.is_none() && mode == Mode::Live {
        let all: Vec<String> = names.iter().map(|name| format!("`{}`", name.get_ref())).collect();
        let problem = match all.as_slice() {
            [only] => format!("the environment variable {only} is not set"),
            several => format!("none of the environment variables {} is set", several.join(", ")),
        };
        section.problems.add(first.span().start, problem, missing);
    }
    found
}
