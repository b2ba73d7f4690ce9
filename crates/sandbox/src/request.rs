//! A request, as handlers see it.

use serde_json::Value;

use crate::error::ApiError;
use crate::parameters::Parameters;

/// What the caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A secret key: everything.
    Secret,
    /// A publishable key: what a browser may do, with a client secret.
    Publishable,
    /// No key: a page.
    Page,
}

/// A request whose key is known, with its parameters.
#[derive(Debug)]
pub(crate) struct Request {
    /// The path, without the query.
    pub(crate) path: String,
    /// What stands at the `{}` of the route, in order.
    pub(crate) captures: Vec<String>,
    /// Query and form, or the JSON body of the sandbox's own API.
    pub(crate) parameters: Parameters,
    /// Who asks.
    pub(crate) caller: Caller,
    /// The base of links to pages of the sandbox: `http://127.0.0.1:12111`.
    pub(crate) base: String,
    /// `Stripe-Version` of the request, or the current one.
    pub(crate) version: String,
}

impl Request {
    /// What stands at the first `{}` of the route: most often the object's id.
    pub(crate) fn id(&self) -> &str {
        self.capture(0)
    }

    /// What stands at a `{}` of the route.
    pub(crate) fn capture(&self, index: usize) -> &str {
        self.captures.get(index).map_or("", String::as_str)
    }

    /// A request with which a page, or an object that is made of others, asks the API's own handler for `id` (may be empty).
    pub(crate) fn within(&self, id: &str, parameters: Value) -> Self {
        Self {
            path: self.path.clone(),
            captures: vec![id.to_owned()],
            parameters: Parameters::new(parameters),
            caller: Caller::Secret,
            base: self.base.clone(),
            version: self.version.clone(),
        }
    }

    /// Refuses a publishable key that does not know the object's client secret. Reads `client_secret`.
    pub(crate) fn check_client_secret(&self, secret: &str, param: &str) -> Result<(), ApiError> {
        let given = self.parameters.text("client_secret")?;
        match (self.caller, given) {
            (Caller::Secret, None) => Ok(()),
            (_, Some(given)) if given == secret => Ok(()),
            (_, None) => Err(self.parameters.missing("client_secret")),
            (_, Some(_)) => Err(ApiError::value(
                "client_secret",
                format!("The client_secret provided does not match the client_secret associated with this {param}."),
            )
            .code("resource_missing")),
        }
    }
}
