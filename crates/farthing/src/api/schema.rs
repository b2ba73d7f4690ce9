//! How the small types of bodies look in the OpenAPI document.

use std::borrow::Cow;

use utoipa::openapi::schema::{
    AdditionalProperties, Array, ArrayBuilder, KnownFormat, Object, ObjectBuilder, OneOfBuilder, Type,
};
use utoipa::openapi::{Ref, RefOr, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use super::body::{Address, Labels, Number, PositiveNumber, SignedNumber, Text};
use super::time::Time;

/// No control characters.
const PLAIN: &str = r"^[^\x00-\x1f\x7f-\x9f]+$";

/// At most nine million million, with at most six digits after the point.
const EXACT: &str = r"^([0-8]?[0-9]{1,12}(\.[0-9]{1,6})?|9000000000000(\.0{1,6})?)$";

/// A text of 1 to `most` characters.
pub(super) fn text(most: usize) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(most))
        .pattern(Some(PLAIN))
        .build()
}

/// A list of 1 to `most` elements that have a schema of their own.
pub(super) fn list_of<T: ToSchema>(most: usize) -> Array {
    let items = Ref::from_schema_name(T::name());
    ArrayBuilder::new().items(items).min_items(Some(1)).max_items(Some(most)).build()
}

impl<const MOST: usize> PartialSchema for Text<MOST> {
    fn schema() -> RefOr<Schema> {
        text(MOST).into()
    }
}

impl<const MOST: usize> ToSchema for Text<MOST> {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("Text{MOST}"))
    }
}

impl PartialSchema for Address {
    fn schema() -> RefOr<Schema> {
        let mut address = text(2000);
        address.pattern = Some(r"^https?://[\x21-\x7e]+$".to_owned());
        address.into()
    }
}

impl ToSchema for Address {}

/// The same, above zero.
const POSITIVE: &str = r"^(?!0+(\.0+)?$)([0-8]?[0-9]{1,12}(\.[0-9]{1,6})?|9000000000000(\.0{1,6})?)$";

impl PartialSchema for Number {
    fn schema() -> RefOr<Schema> {
        number(0.0, EXACT)
    }
}

impl ToSchema for Number {}

impl PartialSchema for PositiveNumber {
    fn schema() -> RefOr<Schema> {
        number(0.000_001, POSITIVE)
    }
}

impl ToSchema for PositiveNumber {}

/// The same, also below zero.
const SIGNED: &str = r"^(?!-?0+(\.0+)?$)-?([0-8]?[0-9]{1,12}(\.[0-9]{1,6})?|9000000000000(\.0{1,6})?)$";

impl PartialSchema for SignedNumber {
    fn schema() -> RefOr<Schema> {
        number(-9_000_000_000_000.0, SIGNED)
    }
}

impl ToSchema for SignedNumber {}

fn number(least: f64, exact: &str) -> RefOr<Schema> {
    let number = ObjectBuilder::new()
        .schema_type(Type::Number)
        .minimum(Some(least))
        .maximum(Some(9_000_000_000_000.0))
        .multiple_of(Some(0.000_001));
    let exact = ObjectBuilder::new().schema_type(Type::String).pattern(Some(exact));
    let either = OneOfBuilder::new()
        .item(number)
        .item(exact)
        .description(Some("A decimal number with at most six digits after the point; text keeps it exact on the way"))
        .build();
    RefOr::T(Schema::OneOf(either))
}

impl PartialSchema for Labels {
    fn schema() -> RefOr<Schema> {
        let mut object = ObjectBuilder::new()
            .schema_type(Type::Object)
            .additional_properties(Some(AdditionalProperties::RefOr(text(255).into())))
            .build();
        object.max_properties = Some(16);
        object.property_names = Some(Box::new(text(255).into()));
        object.into()
    }
}

impl ToSchema for Labels {}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("RFC 3339"))
            .build()
            .into()
    }
}

impl ToSchema for Time {}
