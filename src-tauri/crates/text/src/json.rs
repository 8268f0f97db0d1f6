//! The `tojson` filter as chat templates know it: Python's `json.dumps`, nothing escaped for HTML.

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State, Value};

use crate::defusing;
use crate::python::{bind, float, is_list, is_namespace};

/// Containers within each other.
const MAX_DEPTH: usize = 500;
/// Spaces, or bytes of a text, for each level.
const MAX_INDENT: usize = 1000;

/// `tojson(value, ensure_ascii, indent, separators, sort_keys)`
pub(crate) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] =
        bind("tojson", &args.into_values(), names)?.map(|arg| arg.filter(|arg| !arg.is_none()));
    let indent = indent.as_ref().map(indent_text).transpose()?;
    let (item, key) = match separators {
        Some(pair) => (separator(&pair, 0)?, separator(&pair, 1)?),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let is_true = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let style =
        Style { item, key, indent, ensure_ascii: is_true(ensure_ascii), sort_keys: is_true(sort_keys) };
    let mut json = String::new();
    style.write(state, &mut json, value, 0)?;
    Ok(Value::from(json))
}

fn failed(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::BadSerialization, format!("tojson: {what}"))
}

/// Spaces, or what a string says, for each level.
fn indent_text(indent: &Value) -> Result<String, Error> {
    let text = match indent.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let n = usize::try_from(i64::try_from(indent.clone())?.max(0)).unwrap_or(usize::MAX);
            " ".repeat(n.min(MAX_INDENT + 1))
        }
    };
    if text.len() > MAX_INDENT {
        return Err(failed(format_args!("it is indented by more than {MAX_INDENT}")));
    }
    Ok(text)
}

fn separator(pair: &Value, i: usize) -> Result<String, Error> {
    let text = pair.get_item_by_index(i)?;
    text.as_str().map(str::to_owned).ok_or_else(|| failed("separators must be two strings"))
}

/// How Python's `json.dumps` lays out a document.
struct Style {
    item: String,
    key: String,
    indent: Option<String>,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl Style {
    fn write(
        &self,
        state: &State<'_, '_>,
        out: &mut String,
        value: &Value,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(failed("values lie too deep in each other"));
        }
        let n_before = out.len();
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)?),
            ValueKind::String => self.write_string(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable if is_list(value) => {
                out.push('[');
                let mut is_empty = true;
                for item in value.try_iter()?.checked() {
                    self.before_item(out, is_empty, depth + 1);
                    is_empty = false;
                    self.write(state, out, &item?, depth + 1)?;
                }
                self.close(out, ']', is_empty, depth);
            }
            ValueKind::Map if !is_namespace(value) => {
                out.push('{');
                let mut keys = Vec::new();
                for key in value.try_iter()?.checked() {
                    let key = key?;
                    keys.push((key_text(&key)?, key));
                }
                if self.sort_keys {
                    keys.sort_by(|a, b| a.0.cmp(&b.0));
                }
                for (i, (text, key)) in keys.iter().enumerate() {
                    self.before_item(out, i == 0, depth + 1);
                    self.write_string(out, text);
                    out.push_str(&self.key);
                    self.write(state, out, &value.get_item(key)?, depth + 1)?;
                }
                self.close(out, '}', keys.is_empty(), depth);
            }
            kind => return Err(failed(format_args!("a value of type {kind} is not serializable"))),
        }
        // As the engine charges for what it makes itself: one step for 64 bytes, and one for the value. What lies
        // within is charged again for each level, as long as that is.
        state.consume_fuel(1 + (out.len() - n_before) as u64 / 64)
    }

    fn before_item(&self, out: &mut String, is_first: bool, depth: usize) {
        if !is_first {
            out.push_str(&self.item);
        }
        self.line_break(out, depth);
    }

    fn close(&self, out: &mut String, bracket: char, is_empty: bool, depth: usize) {
        if !is_empty {
            self.line_break(out, depth);
        }
        out.push(bracket);
    }

    fn line_break(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            for _ in 0..depth {
                out.push_str(indent);
            }
        }
    }

    fn write_string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                // A mark must stay findable whatever the template does.
                c if self.ensure_ascii && c > '~' && !defusing::is_noncharacter(c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn number(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    let number = f64::try_from(value.clone())?;
    Ok(match number {
        _ if number.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        number => float(number),
    })
}

/// A key as JSON knows them.
fn key_text(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
        ValueKind::None => "null".into(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        ValueKind::Number => number(key)?,
        kind => return Err(failed(format_args!("a key of type {kind}"))),
    })
}
