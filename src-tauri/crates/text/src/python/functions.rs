//! Jinja's global functions where Rust's are others, or are missing.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};
use minijinja_contrib::globals;

use super::source::ITERABLE;
use super::views::is_list;

pub(crate) fn add_to(environment: &mut Environment<'static>) {
    environment.remove_global("debug");
    environment.add_function("cycler", |items: Rest<Value>| globals::cycler(items.to_vec()));
    environment.add_function("joiner", globals::joiner);
    environment.add_function("dict", dict);
    environment.add_filter(ITERABLE, iterable);
}

/// `dict(a, b=1)` of another dict or of pairs.
fn dict(value: Option<Value>, more: Kwargs) -> Result<Value, Error> {
    let pairs = match value {
        Some(pairs) if is_list(&pairs) => pairs,
        value => return minijinja::functions::dict(value, more),
    };
    let mut held: Vec<(String, Value)> = Vec::new();
    for pair in pairs.try_iter()?.checked() {
        let pair: Vec<Value> = pair?.try_iter()?.collect();
        let wrong = || Error::new(ErrorKind::InvalidOperation, "dict: a text and a value are wanted");
        let [key, value] = <[Value; 2]>::try_from(pair).map_err(|_| wrong())?;
        held.push((key.as_str().ok_or_else(wrong)?.to_owned(), value));
    }
    for name in more.args() {
        held.push((name.to_owned(), more.get::<Value>(name)?));
    }
    minijinja::functions::dict(None, held.into_iter().collect())
}

/// What a `for` goes through: `none` is nothing to go through, and an error.
fn iterable(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::None => Err(Error::new(ErrorKind::InvalidOperation, "none is not iterable")),
        _ => Ok(value),
    }
}
