//! How the bodies that are read laxly look in an OpenAPI document.

use serde_json::{Value, json};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

/// A body in the making, member by member.
pub(super) struct Shape(ObjectBuilder);

impl Shape {
    pub(super) fn new() -> Self {
        Self(ObjectBuilder::new().schema_type(Type::Object))
    }

    /// A text of so many characters that has to be there.
    pub(super) fn text(self, name: &str, least: usize, most: usize) -> Self {
        Self(self.0.property(name, text(least, most)).required(name))
    }

    /// A text of at most so many characters, or `null`.
    pub(super) fn optional_text(self, name: &str, most: usize) -> Self {
        let types = SchemaType::from_iter([Type::String, Type::Null]);
        let schema = ObjectBuilder::new().schema_type(types).max_length(Some(most));
        Self(self.0.property(name, schema))
    }

    /// A text that fits a pattern and has to be there.
    pub(super) fn pattern(self, name: &str, pattern: &str) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
        Self(self.0.property(name, schema).required(name))
    }

    /// A whole number of at least so much that has to be there.
    pub(super) fn integer(self, name: &str, least: i64) -> Self {
        Self(self.0.property(name, integer(least)).required(name))
    }

    /// A number above zero that has to be there.
    pub(super) fn number(self, name: &str) -> Self {
        let mut schema = ObjectBuilder::new().schema_type(Type::Number).build();
        schema.exclusive_minimum = Some(utoipa::Number::from(0_isize));
        Self(self.0.property(name, schema).required(name))
    }

    /// The same, which may be left out.
    pub(super) fn optional_integer(self, name: &str, least: i64) -> Self {
        Self(self.0.property(name, integer(least)))
    }

    /// A number of at least nothing, which may be left out.
    pub(super) fn optional_number(self, name: &str) -> Self {
        let mut schema = ObjectBuilder::new().schema_type(Type::Number).build();
        schema.minimum = Some(utoipa::Number::from(0_isize));
        Self(self.0.property(name, schema))
    }

    /// `true` or `false`, which may be left out.
    pub(super) fn flag(self, name: &str) -> Self {
        Self(self.0.property(name, ObjectBuilder::new().schema_type(Type::Boolean)))
    }

    /// An object of texts, which may be left out.
    pub(super) fn texts(self, name: &str, members: &[&str]) -> Self {
        let below = members.iter().fold(Self::new(), |below, member| below.optional_text(member, 255));
        Self(self.0.property(name, below.0))
    }

    pub(super) fn schema(self, example: Value) -> RefOr<Schema> {
        self.0.examples([example]).build().into()
    }
}

fn text(least: usize, most: usize) -> Object {
    let lengths = ObjectBuilder::new().min_length(Some(least)).max_length(Some(most));
    lengths.schema_type(Type::String).build()
}

fn integer(least: i64) -> Object {
    // What the ledger can count, in whole units.
    let mut schema = ObjectBuilder::new().schema_type(Type::Integer).build();
    schema.minimum = Some(utoipa::Number::from(isize::try_from(least).unwrap_or_default()));
    schema.maximum = Some(utoipa::Number::from(9_000_000_000_000_isize));
    schema
}

/// A problem whose `detail` is a sentence, or a list of everything that is wrong with a body.
pub(super) fn problem() -> RefOr<Schema> {
    let types = SchemaType::from_iter([Type::String, Type::Array]);
    let detail = ObjectBuilder::new().schema_type(types);
    let problem = ObjectBuilder::new().schema_type(Type::Object).property("detail", detail).required("detail");
    problem.examples([json!({"detail": "Account not found"})]).build().into()
}
