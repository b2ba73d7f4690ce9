//! The parameters of a call as Stripe reads them: `application/x-www-form-urlencoded`, with brackets for what is nested
//! (<https://docs.stripe.com/api>).

use std::fmt::Display;

/// Parameters in order.
#[derive(Clone, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// No parameters.
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// With one more; the name is written with its brackets.
    #[must_use]
    pub(super) fn with(mut self, name: impl Into<String>, value: impl Display) -> Self {
        self.0.push((name.into(), value.to_string()));
        self
    }

    /// With one more, where there is a value.
    #[must_use]
    pub(super) fn with_some(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With an object that is to be in the reply as a whole instead of by its id.
    #[must_use]
    pub(super) fn expand(self, path: &str) -> Self {
        self.with("expand[]", path)
    }

    /// As it is sent.
    pub(super) fn encode(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nested_goes_in_brackets() {
        let form = Form::new()
            .with("amount", 1999)
            .with("metadata[farthing_payment]", "pay_1")
            .with("line_items[0][price_data][product_data][name]", "Credits & more = 100%, für Zoë")
            .with("off_session", true)
            .with_some("description", None::<&str>)
            .expand("latest_charge");
        assert_eq!(
            form.encode(),
            "amount=1999&metadata%5Bfarthing_payment%5D=pay_1\
             &line_items%5B0%5D%5Bprice_data%5D%5Bproduct_data%5D%5Bname%5D=\
             Credits+%26+more+%3D+100%25%2C+f%C3%BCr+Zo%C3%AB&off_session=true&expand%5B%5D=latest_charge"
        );
        assert_eq!(Form::new().encode(), "");
    }
}
