//! Jinja's filters where Rust's are others, or are missing.

use minijinja::value::{Kwargs, Rest, StringInput, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::arguments::bind;
use super::printing::{is_namespace, to_str};
use super::strings;

/// Columns that a text may be indented by.
const MAX_INDENT: usize = 1000;

pub(crate) fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("string", |value: &Value| to_str(value));
    environment.add_filter("trim", trim);
    environment.add_filter("join", join);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("center", center);
    environment.add_filter("wordcount", |value: &Value| Ok::<usize, Error>(n_words(&to_str(value)?)));
    environment.add_filter("truncate", truncate);
    environment.add_filter("indent", indent);
    environment.add_filter("attr", attr);
    environment.add_filter("sort", sort);
    environment.add_filter("dictsort", dictsort);
    for name in ["e", "escape", "forceescape"] {
        environment.add_filter(name, escape);
    }
}

/// `default(value, default_value, boolean)`, by place or by name.
fn default(value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let named = kwargs.get::<Option<Value>>("default_value")?;
    let other = args.first().cloned().or(named).unwrap_or_else(|| Value::from(""));
    let lax = args.get(1).cloned().or(kwargs.get::<Option<Value>>("boolean")?);
    kwargs.assert_all_used()?;
    if args.len() > 2 {
        return Err(ErrorKind::TooManyArguments.into());
    }
    let is_lax = lax.is_some_and(|lax| lax.is_true());
    Ok(if value.is_undefined() || (is_lax && !value.is_true()) { other } else { value.clone() })
}

fn trim(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let text = to_str(value)?;
    let [chars] = bind("trim", &args.into_values(), ["chars"])?;
    Ok(Value::from(match chars.as_ref().filter(|chars| !chars.is_none()) {
        None => strings::strip(&text),
        Some(chars) => {
            let chars = to_str(chars)?;
            return Ok(Value::from(text.trim_matches(|c| chars.contains(c))));
        }
    }))
}

fn join(state: &State<'_, '_>, value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [separator, attribute] = bind("join", &args.into_values(), ["d", "attribute"])?;
    let separator = separator.as_ref().map_or_else(|| Ok(String::new()), to_str)?;
    let mut out = String::new();
    for (i, item) in value.try_iter()?.checked().enumerate() {
        let item = match &attribute {
            Some(attribute) => attribute_of(&item?, attribute)?,
            None => item?,
        };
        if i > 0 {
            out.push_str(&separator);
        }
        let text = to_str(&item)?;
        out.push_str(&text);
        // As the engine charges for what it makes itself: one step for 64 bytes, and one for the item.
        state.consume_fuel(1 + (separator.len() + text.len()) as u64 / 64)?;
    }
    Ok(Value::from(out))
}

/// What lies at a path of names and numbers with full stops between them.
fn attribute_of(value: &Value, path: &Value) -> Result<Value, Error> {
    let Some(path) = path.as_str() else { return value.get_item(path) };
    let mut value = value.clone();
    for part in path.split('.') {
        value = match part.parse::<usize>() {
            Ok(index) => value.get_item_by_index(index)?,
            Err(_) => value.get_attr(part)?,
        };
    }
    Ok(value)
}

fn int(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [default, base] = bind("int", &args.into_values(), ["default", "base"])?;
    let base = base.map_or(Ok(10), u32::try_from)?;
    let default = default.unwrap_or_else(|| Value::from(0));
    Ok(match value.kind() {
        ValueKind::Undefined => return Err(ErrorKind::UndefinedError.into()),
        ValueKind::Bool => Value::from(i64::from(value.is_true())),
        ValueKind::Number if value.is_integer() => value.clone(),
        ValueKind::Number => whole(f64::try_from(value.clone())?).unwrap_or(default),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            let found = parsed_int(text, base).map(Value::from);
            found.or_else(|| parsed_float(text).and_then(whole)).unwrap_or(default)
        }
        _ => default,
    })
}

fn float(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [default] = bind("float", &args.into_values(), ["default"])?;
    let default = default.unwrap_or_else(|| Value::from(0.0));
    Ok(match value.kind() {
        ValueKind::Undefined => return Err(ErrorKind::UndefinedError.into()),
        ValueKind::Bool => Value::from(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => Value::from(f64::try_from(value.clone())?),
        ValueKind::String => value.as_str().and_then(parsed_float).map_or(default, Value::from),
        _ => default,
    })
}

/// A number without its fraction, if it is one that fits.
fn whole(number: f64) -> Option<Value> {
    let fits = number.is_finite() && number.abs() < 2f64.powi(126);
    #[allow(clippy::cast_possible_truncation, reason = "it fits")]
    fits.then(|| Value::from(number.trunc() as i128))
}

/// `int(text, base)`
fn parsed_int(text: &str, base: u32) -> Option<i128> {
    let text = strings::strip(text);
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = match base {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        3..=36 => "",
        _ => return None,
    };
    let has_prefix =
        !prefix.is_empty() && digits.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let digits = if has_prefix { digits[2..].strip_prefix('_').unwrap_or(&digits[2..]) } else { digits };
    let digits = without_underscores(digits)?;
    let magnitude = i128::from_str_radix(&digits, base).ok().filter(|_| !digits.starts_with(['+', '-']))?;
    Some(if is_negative { -magnitude } else { magnitude })
}

/// `float(text)`
fn parsed_float(text: &str) -> Option<f64> {
    let text = without_underscores(strings::strip(text))?;
    text.parse().ok()
}

/// Digits may have single underscores between them.
fn without_underscores(text: &str) -> Option<String> {
    let is_misplaced = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    (!is_misplaced).then(|| text.replace('_', ""))
}

fn center(state: &mut State<'_, '_>, value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [width] = bind("center", &args.into_values(), ["width"])?;
    let width = width.unwrap_or_else(|| Value::from(80));
    strings::call(state, &Value::from(to_str(value)?), "center", &[width])
}

/// Runs of letters, digits and underscores.
fn n_words(text: &str) -> usize {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).count()
}

fn truncate(value: StringInput<'_>, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let text = value.as_str();
    let [length, cuts_words, end, leeway] =
        bind("truncate", &args.into_values(), ["length", "killwords", "end", "leeway"])?;
    let length = length.map_or(Ok(255), usize::try_from)?;
    let leeway = leeway.filter(|leeway| !leeway.is_none()).map_or(Ok(5), usize::try_from)?;
    let end = end.as_ref().map_or_else(|| Ok("...".to_owned()), to_str)?;
    let n_kept = length.checked_sub(end.chars().count());
    let n_kept = n_kept.ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, "truncate: the end is longer than what it ends")
    })?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(Value::from(text));
    }
    let kept = &text[..text.char_indices().nth(n_kept).map_or(text.len(), |(at, _)| at)];
    let kept = match cuts_words.is_some_and(|cuts| cuts.is_true()) {
        true => kept,
        false => kept.rsplit_once(' ').map_or(kept, |(words, _)| words),
    };
    Ok(Value::from(format!("{kept}{end}")))
}

fn indent(state: &State<'_, '_>, value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [width, first, blank] = bind("indent", &args.into_values(), ["width", "first", "blank"])?;
    let indentation = match width {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => " "
                .repeat(usize::try_from(i64::try_from(width)?.max(0)).unwrap_or(usize::MAX).min(MAX_INDENT)),
        },
    };
    if indentation.len() >= MAX_INDENT {
        return Err(Error::new(ErrorKind::InvalidOperation, "indent: the width is too large"));
    }
    let is_true = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let (first, blank) = (is_true(first), is_true(blank));
    let text = to_str(value)? + "\n";
    let mut out = String::with_capacity(text.len());
    for (i, line) in strings::lines(&text, false).into_iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if (i > 0 && (blank || !line.is_empty())) || (i == 0 && first) {
            out.push_str(&indentation);
        }
        out.push_str(line);
        state.consume_fuel(indentation.len() as u64 / 64)?;
    }
    Ok(Value::from(out))
}

/// An attribute and never an item: dicts have none that are values.
fn attr(value: &Value, name: &str) -> Result<Value, Error> {
    if value.kind() == ValueKind::Map && !is_namespace(value) {
        return Ok(Value::UNDEFINED);
    }
    value.get_attr(name)
}

/// Arguments by name for a filter of the library's that takes no others.
fn by_name<const N: usize>(
    filter: &str,
    args: Rest<ValueOrKwargs>,
    names: [&'static str; N],
) -> Result<Kwargs, Error> {
    let bound = bind(filter, &args.into_values(), names)?;
    Ok(names.into_iter().zip(bound).filter_map(|(name, value)| Some((name, value?))).collect())
}

fn sort(state: &State<'_, '_>, value: Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let args = by_name("sort", args, ["reverse", "case_sensitive", "attribute"])?;
    minijinja::filters::sort(state, value, args)
}

fn dictsort(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    minijinja::filters::dictsort(value, by_name("dictsort", args, ["case_sensitive", "by", "reverse"])?)
}

/// For HTML, as Python's `markupsafe` does it.
fn escape(value: &Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let text = to_str(value)?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    Ok(Value::from_safe_string(out))
}
