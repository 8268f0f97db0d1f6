//! Jinja's tests as Python answers them.

use minijinja::value::{ObjectRepr, ValueKind};
use minijinja::{Environment, Error, Value};

use super::printing::{is_namespace, to_str};
use super::views::is_list;

pub(crate) fn add_to(environment: &mut Environment<'static>) {
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_test("mapping", is_mapping);
    environment
        .add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    environment.add_test("callable", is_callable);
    environment.add_test("lower", |value: &Value| is_of_case(value, char::is_lowercase, char::is_uppercase));
    environment.add_test("upper", |value: &Value| is_of_case(value, char::is_uppercase, char::is_lowercase));
}

/// What has a length and can be indexed: strings and dicts too, and what is not defined.
fn is_sequence(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq => true,
        ValueKind::Map => !is_namespace(value),
        ValueKind::Iterable => is_list(value),
        _ => false,
    }
}

/// `tools is iterable` is how templates find out that there are none.
fn is_iterable(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Iterable => true,
        ValueKind::Map => !is_namespace(value),
        _ => false,
    }
}

fn is_mapping(value: &Value) -> bool {
    value.kind() == ValueKind::Map && !is_namespace(value)
}

fn is_callable(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.repr() == ObjectRepr::Plain)
}

fn is_of_case(value: &Value, wanted: fn(char) -> bool, other: fn(char) -> bool) -> Result<bool, Error> {
    let text = to_str(value)?;
    Ok(text.chars().any(wanted) && !text.chars().any(other))
}
