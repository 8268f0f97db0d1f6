//! Filters that go through a list item by item: in Python they give no list.

use minijinja::filters;
use minijinja::value::{Kwargs, Rest, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};

use super::views::{Generator, is_list};

pub(crate) fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter("map", |state: &mut State<'_, '_>, value: Value, args: Rest<ValueOrKwargs>| {
        filters::map(state, value, args).map(of)
    });
    environment.add_filter(
        "select",
        |state: &mut State<'_, '_>, value: Value, test: Option<String>, args: Rest<ValueOrKwargs>| {
            filters::select(state, value, test.map(Into::into), args).map(of)
        },
    );
    environment.add_filter(
        "reject",
        |state: &mut State<'_, '_>, value: Value, test: Option<String>, args: Rest<ValueOrKwargs>| {
            filters::reject(state, value, test.map(Into::into), args).map(of)
        },
    );
    environment.add_filter("selectattr", selectattr);
    environment.add_filter("rejectattr", rejectattr);
    environment.add_filter("unique", |state: &State<'_, '_>, value: Value, kwargs: Kwargs| {
        filters::unique(state, value, kwargs).map(of)
    });
    environment.add_filter("items", |value: &Value| filters::items(value).map(of));
    environment.add_filter("reverse", |value: &Value| {
        let reversed = filters::reverse(value)?;
        Ok::<Value, Error>(if is_list(&reversed) { of(reversed) } else { reversed })
    });
}

fn of(items: impl Into<Value>) -> Value {
    Value::from_object(Generator(items.into()))
}

fn selectattr(
    state: &mut State<'_, '_>,
    value: Value,
    attribute: String,
    test: Option<String>,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    filters::selectattr(state, value, attribute.into(), test.map(Into::into), args).map(of)
}

fn rejectattr(
    state: &mut State<'_, '_>,
    value: Value,
    attribute: String,
    test: Option<String>,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    filters::rejectattr(state, value, attribute.into(), test.map(Into::into), args).map(of)
}
