//! What chat templates take for granted because they were written for Python, and Jinja in Rust lacks or does otherwise.

use std::sync::LazyLock;

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, context};

mod arguments;
mod escapes;
mod filters;
mod functions;
mod generators;
mod jinja_tests;
mod methods;
mod printing;
mod source;
mod strings;
mod views;

pub(crate) use arguments::bind;
pub(crate) use printing::{float, is_namespace};
pub(crate) use source::respelt;
pub(crate) use views::is_list;

/// Makes an environment's values, filters and tests those of Python's Jinja. What is compiled in it must be
/// [`respelt`] before.
pub(crate) fn add_to(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, _, value| {
        let written = match value.as_str() {
            Some(text) => out.write_str(text),
            None => out.write_str(&printing::to_str(value)?),
        };
        written.map_err(Error::from)
    });
    environment.add_filter(source::PERCENT, percent);
    environment.add_filter("format", |state: &mut State<'_, '_>, text: &Value, args: Rest<ValueOrKwargs>| {
        formatted(state, text, args.into_values())
    });
    filters::add_to(environment);
    generators::add_to(environment);
    functions::add_to(environment);
    jinja_tests::add_to(environment);
}

/// `left % right`: of a string a text with the values in it, else the remainder.
fn percent(state: &mut State<'_, '_>, left: Value, right: Value) -> Result<Value, Error> {
    if left.kind() == ValueKind::String {
        let arguments = if right.is_tuple() { right.try_iter()?.collect() } else { vec![right] };
        return formatted(state, &left, arguments);
    }
    static REMAINDERS: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);
    REMAINDERS.compile_expression("left % right")?.eval(context! { left, right })
}

/// `text % arguments`, for what the library's `format` lacks: `%r`, `%i`, and values as Python writes them.
fn formatted(state: &mut State<'_, '_>, text: &Value, mut arguments: Vec<Value>) -> Result<Value, Error> {
    let mut out = String::new();
    let mut rest = text.as_str().unwrap_or_default();
    let mut n_seen = 0;
    while let Some(at) = rest.find('%') {
        let spec_len = rest[at + 1..].find(|c: char| !matches!(c, '#' | '0'..='9' | '-' | ' ' | '+' | '.'));
        let end = at + 1 + spec_len.unwrap_or(rest.len() - at - 1);
        let conversion = rest[end..].chars().next().unwrap_or(' ');
        if matches!(conversion, '(' | '*' | 'h' | 'l' | 'L') {
            // Its values are not in a row: as the library does it.
            out = text.as_str().unwrap_or_default().to_owned();
            rest = "";
            break;
        }
        out.push_str(&rest[..end]);
        out.push(match conversion {
            'r' | 'a' => 's',
            'i' | 'u' => 'd',
            other => other,
        });
        rest = &rest[end + conversion.len_utf8().min(rest.len() - end)..];
        if conversion == '%' {
            continue;
        }
        if let Some(argument) = arguments.get_mut(n_seen) {
            *argument = match conversion {
                's' => Value::from(printing::to_str(argument)?),
                'r' | 'a' => Value::from(printing::to_repr(argument)?),
                'd' | 'i' | 'u' if argument.kind() == ValueKind::Number => {
                    state.apply_filter("int", std::slice::from_ref(argument))?
                }
                _ => argument.clone(),
            };
        }
        n_seen += 1;
    }
    out.push_str(rest);
    let text = Value::from(out);
    let arguments: Vec<Value> = std::iter::once(text).chain(arguments).collect();
    let (text, arguments) = minijinja::value::from_args::<(&str, Rest<ValueOrKwargs>)>(&arguments)?;
    minijinja::formatting::format(minijinja::formatting::FormatStyle::Printf, text, &arguments.into_values())
        .map(Value::from)
}
