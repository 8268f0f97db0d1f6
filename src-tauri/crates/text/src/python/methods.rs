//! Methods of Python's strings, dicts, lists and numbers.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::printing::is_namespace;
use super::source::ATTRIBUTE;
use super::strings;
use super::views::{Method, Of, View, is_list};

/// Calls a method that the engine itself does not know.
pub(crate) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if method == ATTRIBUTE {
        return attribute(value, args);
    }
    match value.kind() {
        ValueKind::String => strings::call(state, value, method, args),
        ValueKind::Map if !is_namespace(value) => of_dict(value, method, args),
        ValueKind::Seq | ValueKind::Iterable if is_list(value) => of_list(value, method, args),
        ValueKind::Number => of_number(value, method, args),
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// `value.name` where `name` is one of the methods that a dict has.
fn attribute(value: &Value, args: &[Value]) -> Result<Value, Error> {
    let (name,): (&str,) = from_args(args)?;
    if value.kind() == ValueKind::Map && !is_namespace(value) {
        return Ok(Value::from_object(Method { of: value.clone(), name: name.to_owned() }));
    }
    value.get_attr(name)
}

fn of_dict(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let unknown = || Error::from(ErrorKind::UnknownMethod);
    let dict = value.as_object().ok_or_else(unknown)?;
    let of = match method {
        "items" => Of::Items,
        "keys" => Of::Keys,
        "values" => Of::Values,
        "get" => {
            let (key, default): (&Value, Option<Value>) = from_args(args)?;
            return Ok(dict.get_value(key).unwrap_or_else(|| default.unwrap_or_else(|| Value::from(()))));
        }
        "copy" => {
            let () = from_args(args)?;
            return Ok(value.clone());
        }
        _ => return Err(unknown()),
    };
    let () = from_args(args)?;
    Ok(Value::from_object(View::new(dict.clone(), of)))
}

fn of_list(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "count" => {
            let (what,): (&Value,) = from_args(args)?;
            let mut n = 0;
            for item in value.try_iter()?.checked() {
                n += usize::from(item? == *what);
            }
            Ok(Value::from(n))
        }
        "index" => {
            let (what,): (&Value,) = from_args(args)?;
            for (i, item) in value.try_iter()?.checked().enumerate() {
                if item? == *what {
                    return Ok(Value::from(i));
                }
            }
            Err(Error::new(ErrorKind::InvalidOperation, "index: there is no such value in it"))
        }
        "copy" if !value.is_tuple() => {
            let () = from_args(args)?;
            Ok(value.clone())
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn of_number(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let () = from_args(args)?;
    match method {
        "bit_length" if value.is_integer() => {
            let bits = i128::try_from(value.clone())?.unsigned_abs();
            Ok(Value::from(u128::BITS - bits.leading_zeros()))
        }
        "is_integer" if !value.is_integer() => {
            let number = f64::try_from(value.clone())?;
            Ok(Value::from(number.is_finite() && number.fract() == 0.0))
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}
