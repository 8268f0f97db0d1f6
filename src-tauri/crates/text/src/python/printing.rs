//! Values as Python writes them: `str` for what is printed, `repr` for what lies in a container.

use minijinja::value::{ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::views::View;

/// Containers within each other: a namespace can hold itself.
const MAX_DEPTH: usize = 200;
/// Bytes of one value.
const MAX_BYTES: usize = 64 << 20;

/// `str(value)`
///
/// # Errors
/// It lies too deep, or an iterator in it fails.
pub(crate) fn to_str(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if value.is_undefined() => Ok(String::new()),
        None => to_repr(value),
    }
}

/// `repr(value)`
///
/// # Errors
/// It lies too deep, or an iterator in it fails.
pub(crate) fn to_repr(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(&mut out, value, 0)?;
    Ok(out)
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "values lie too deep in each other to be printed",
        ));
    }
    if out.len() > MAX_BYTES {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value is too long to be printed"));
    }
    if let Some(text) = value.as_str() {
        quote(out, text);
        return Ok(());
    }
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(number) => out.push_str(&float(number)),
            Err(_) => out.push_str(&value.to_string()),
        },
        ValueKind::Map => {
            let (open, close) = if is_namespace(value) { ("<Namespace {", "}>") } else { ("{", "}") };
            out.push_str(open);
            for (i, key) in value.try_iter()?.checked().enumerate() {
                let key = key?;
                out.push_str(if i == 0 { "" } else { ", " });
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push_str(close);
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = match value.downcast_object_ref::<View>() {
                Some(view) => view.brackets(),
                None if value.is_tuple() => ("(", if value.len() == Some(1) { ",)" } else { ")" }),
                None => ("[", "]"),
            };
            out.push_str(open);
            for (i, item) in value.try_iter()?.checked().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_repr(out, &item?, depth + 1)?;
            }
            out.push_str(close);
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Whether this is a `namespace()`, which is no mapping in Python.
pub(crate) fn is_namespace(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|object| object.repr() == ObjectRepr::Map && object.type_name().ends_with("::Namespace"))
}

/// A number with a fraction as Python writes it: the shortest text that reads back as the same, with an exponent, of a
/// sign and two digits, below 1e-4 and from 1e16 on.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if value != 0.0 && !(-4..16).contains(&exponent) => format!("{mantissa}e{exponent:+03}"),
        _ => format!("{value:?}"),
    }
}

/// A string in quotes.
fn quote(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push(quote);
}

/// Whether Python's `repr` leaves a character as it is: not those of control, of format, of private use and of no use
/// yet, nor white space but for the space itself.
pub(crate) fn is_printable(c: char) -> bool {
    // A mark must stay findable whatever the template does.
    if crate::defusing::is_noncharacter(c) {
        return true;
    }
    static HIDDEN: std::sync::LazyLock<regex::Regex> =
        std::sync::LazyLock::new(|| regex::Regex::new(r"^[\p{C}\p{Z}]$").expect("the pattern is a constant"));
    c == ' ' || c.is_ascii_graphic() || !HIDDEN.is_match(c.encode_utf8(&mut [0; 4]))
}
