//! Methods of Python's strings.

use std::sync::LazyLock;

use minijinja::value::{Tuple, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;
use regex::Regex;

use super::arguments::bind;
use super::printing::is_printable;

/// Longest padding that a method may be asked for.
const MAX_WIDTH: usize = 1 << 16;

/// What Python takes for white space: Unicode's, and four of ASCII's separators.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `text.strip()`
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Calls a method of a string.
pub(crate) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else { return Err(ErrorKind::UnknownMethod.into()) };
    let found = match method {
        "strip" | "lstrip" | "rstrip" => stripped(text, method, args)?,
        "split" | "rsplit" | "splitlines" | "partition" | "rpartition" => parts(text, method, args)?,
        "startswith" | "endswith" | "find" | "rfind" | "index" | "rindex" | "count" => {
            searched(text, method, args)?
        }
        "center" | "ljust" | "rjust" | "zfill" | "expandtabs" => padded(text, method, args)?,
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "join" => joined(state, text, args)?,
        "isalpha" | "isalnum" | "isdecimal" | "isdigit" | "isnumeric" | "isspace" | "isprintable"
        | "isidentifier" | "istitle" => {
            let () = from_args(args)?;
            Value::from(is_of(text, method))
        }
        "title" | "capitalize" | "casefold" | "swapcase" => {
            let () = from_args(args)?;
            Value::from(cased(text, method))
        }
        _ => return pycompat::unknown_method_callback(state, value, method, args),
    };
    Ok(found)
}

fn wrong(method: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{method}: {what}"))
}

/// A string, where it is given and is not `none`.
fn string<'a>(method: &str, value: Option<&'a Value>) -> Result<Option<&'a str>, Error> {
    match value.filter(|value| !value.is_none()) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or_else(|| wrong(method, "a string is wanted")),
    }
}

/// A whole number, where it is given and is not `none`.
fn number(value: Option<&Value>) -> Result<Option<i64>, Error> {
    value.filter(|value| !value.is_none()).map(|value| i64::try_from(value.clone())).transpose()
}

fn stripped(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let [chars] = bind(method, args, [""])?;
    let chars = string(method, chars.as_ref())?;
    let is_cut = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    Ok(Value::from(match method {
        "strip" => text.trim_matches(is_cut),
        "lstrip" => text.trim_start_matches(is_cut),
        _ => text.trim_end_matches(is_cut),
    }))
}

fn parts(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let tuple = |parts: [&str; 3]| Value::from(Tuple::from(parts.map(Value::from)));
    match method {
        "splitlines" => {
            let [keep_ends] = bind(method, args, ["keepends"])?;
            let lines = lines(text, keep_ends.is_some_and(|keep| keep.is_true()));
            return Ok(lines.into_iter().map(Value::from).collect());
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(wrong(method, "the separator is empty"));
            }
            return Ok(match method {
                "partition" => text
                    .split_once(separator)
                    .map_or_else(|| tuple([text, "", ""]), |(a, b)| tuple([a, separator, b])),
                _ => text
                    .rsplit_once(separator)
                    .map_or_else(|| tuple(["", "", text]), |(a, b)| tuple([a, separator, b])),
            });
        }
        _ => {}
    }
    let [separator, most] = bind(method, args, ["sep", "maxsplit"])?;
    let separator = string(method, separator.as_ref())?;
    // Below 0 means as often as there is something to cut.
    let n_cuts = number(most.as_ref())?.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let parts: Vec<&str> = match (separator, method) {
        (Some(""), _) => return Err(wrong(method, "the separator is empty")),
        (Some(separator), "split") => text.splitn(n_cuts.saturating_add(1), separator).collect(),
        (Some(separator), _) => {
            let mut parts: Vec<&str> = text.rsplitn(n_cuts.saturating_add(1), separator).collect();
            parts.reverse();
            parts
        }
        (None, "split") => words(text, n_cuts),
        (None, _) => words_from_the_end(text, n_cuts),
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Words between white space; what is left after the last cut keeps the white space at its end.
fn words(text: &str, n_cuts: usize) -> Vec<&str> {
    let (mut rest, mut words) = (text.trim_start_matches(is_space), Vec::new());
    while !rest.is_empty() {
        let end = if words.len() < n_cuts { rest.find(is_space) } else { None };
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word);
        rest = after.trim_start_matches(is_space);
    }
    words
}

fn words_from_the_end(text: &str, n_cuts: usize) -> Vec<&str> {
    let (mut rest, mut words) = (text.trim_end_matches(is_space), Vec::new());
    while !rest.is_empty() {
        let at = if words.len() < n_cuts { rest.rfind(is_space) } else { None };
        let start = at.map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
        words.push(&rest[start..]);
        rest = rest[..at.unwrap_or(0)].trim_end_matches(is_space);
    }
    words.reverse();
    words
}

/// `text.splitlines(keep_ends)`
pub(crate) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let is_end = |c: char| {
        matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let (mut rest, mut lines) = (text, Vec::new());
    while !rest.is_empty() {
        let Some(at) = rest.find(is_end) else {
            lines.push(rest);
            break;
        };
        let end = if rest[at..].starts_with("\r\n") {
            at + 2
        } else {
            at + rest[at..].chars().next().map_or(0, char::len_utf8)
        };
        lines.push(&rest[..if keep_ends { end } else { at }]);
        rest = &rest[end..];
    }
    lines
}

fn searched(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let [what, start, end] = bind(method, args, ["", "", ""])?;
    let what = what.ok_or(ErrorKind::MissingArgument)?;
    let window = window(text, number(start.as_ref())?, number(end.as_ref())?);
    if matches!(method, "startswith" | "endswith") {
        let options: Vec<Value> =
            if what.is_tuple() { what.try_iter()?.collect() } else { vec![what.clone()] };
        let mut found = false;
        for option in &options {
            let option = option.as_str().ok_or_else(|| wrong(method, "a string or a tuple is wanted"))?;
            found |= window.is_some_and(|(_, within)| match method {
                "startswith" => within.starts_with(option),
                _ => within.ends_with(option),
            });
        }
        return Ok(Value::from(found));
    }
    let what = what.as_str().ok_or_else(|| wrong(method, "a string is wanted"))?;
    let Some((n_before, within)) = window else {
        return match method {
            "count" => Ok(Value::from(0)),
            "find" | "rfind" => Ok(Value::from(-1)),
            _ => Err(wrong(method, "there is no such text in it")),
        };
    };
    let at = match method {
        "count" => return Ok(Value::from(within.matches(what).count())),
        "find" | "index" => within.find(what),
        _ => within.rfind(what),
    };
    match at {
        Some(at) => Ok(Value::from(n_before + within[..at].chars().count())),
        None if matches!(method, "find" | "rfind") => Ok(Value::from(-1)),
        None => Err(wrong(method, "there is no such text in it")),
    }
}

/// `text[start:end]` with the number of characters before it; nothing where it would start beyond the text.
fn window(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(usize, &str)> {
    if start.is_none() && end.is_none() {
        return Some((0, text));
    }
    let n = text.chars().count();
    let place = |at: i64| {
        let magnitude = usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX);
        if at < 0 { n.saturating_sub(magnitude) } else { magnitude }
    };
    let (start, end) = (start.map_or(0, place), end.map_or(n, place).min(n));
    if start > end {
        return None;
    }
    let byte = |n_chars: usize| text.char_indices().nth(n_chars).map_or(text.len(), |(at, _)| at);
    Some((start, &text[byte(start)..byte(end)]))
}

fn padded(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let [width, fill] = bind(method, args, if method == "expandtabs" { ["tabsize", ""] } else { ["", ""] })?;
    let width = match number(width.as_ref())? {
        Some(width) => usize::try_from(width.max(0)).unwrap_or(usize::MAX),
        None if method == "expandtabs" => 8,
        None => return Err(wrong(method, "a width is wanted")),
    };
    if width > MAX_WIDTH {
        return Err(wrong(method, "the width is too large"));
    }
    if method == "expandtabs" {
        return expanded(text, width).map(Value::from);
    }
    let fill = string(method, fill.as_ref())?.unwrap_or(" ");
    if fill.chars().count() != 1 {
        return Err(wrong(method, "one character is wanted to fill with"));
    }
    let n = width.saturating_sub(text.chars().count());
    Ok(Value::from(match method {
        "ljust" => format!("{text}{}", fill.repeat(n)),
        "rjust" => format!("{}{text}", fill.repeat(n)),
        "center" => {
            // As Python does: what is left over goes to the right, but to the left of a text of odd width.
            let left = n / 2 + (n & width & 1);
            format!("{}{text}{}", fill.repeat(left), fill.repeat(n - left))
        }
        _ => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", "0".repeat(n))
        }
    }))
}

fn expanded(text: &str, size: usize) -> Result<String, Error> {
    let n_tabs = text.matches('\t').count();
    if n_tabs.saturating_mul(size) > MAX_WIDTH.max(8 * n_tabs) {
        return Err(wrong("expandtabs", "the tabs are too wide"));
    }
    let (mut out, mut column) = (String::with_capacity(text.len()), 0);
    for c in text.chars() {
        match c {
            '\t' => {
                let n = if size == 0 { 0 } else { size - column % size };
                out.push_str(&" ".repeat(n));
                column += n;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    Ok(out)
}

fn joined(state: &State<'_, '_>, separator: &str, args: &[Value]) -> Result<Value, Error> {
    let (values,): (&Value,) = from_args(args)?;
    let mut out = String::new();
    for (i, value) in values.try_iter()?.checked().enumerate() {
        let value = value?;
        let text = value.as_str().ok_or_else(|| wrong("join", "only strings can be joined"))?;
        if i > 0 {
            out.push_str(separator);
        }
        out.push_str(text);
        // As the engine charges for what it makes itself: one step for 64 bytes.
        state.consume_fuel((separator.len() + text.len()) as u64 / 64)?;
    }
    Ok(Value::from(out))
}

fn is_of(text: &str, method: &str) -> bool {
    static PATTERNS: LazyLock<[Regex; 4]> = LazyLock::new(|| {
        [
            r"^\p{L}+$",
            r"^\p{Nd}+$",
            // Digits that stand higher, lower, in circles, in parentheses or before a full stop.
            r"^[\p{Nd}²³¹⁰⁴-⁹₀-₉①-⑨⑴-⑼⒈-⒐⓪⓵-⓽⓿❶-❾➀-➈➊-➒]+$",
            r"^[\p{XID_Start}_]\p{XID_Continue}*$",
        ]
        .map(|pattern| Regex::new(pattern).expect("the pattern is a constant"))
    });
    let [alphabetic, decimal, digit, identifier] = &*PATTERNS;
    match method {
        "isalpha" => alphabetic.is_match(text),
        "isdecimal" => decimal.is_match(text),
        "isdigit" => digit.is_match(text),
        "isnumeric" => !text.is_empty() && text.chars().all(char::is_numeric),
        "isalnum" => {
            let is_alphabetic = |c: char| alphabetic.is_match(c.encode_utf8(&mut [0; 4]));
            !text.is_empty() && text.chars().all(|c| c.is_numeric() || is_alphabetic(c))
        }
        "isspace" => !text.is_empty() && text.chars().all(is_space),
        "isprintable" => text.chars().all(is_printable),
        "isidentifier" => identifier.is_match(text),
        // Upper case starts each run of letters and nothing else.
        _ => {
            let (mut after_cased, mut has_cased, mut is_title) = (false, false, true);
            for c in text.chars() {
                is_title &= !(c.is_uppercase() && after_cased || c.is_lowercase() && !after_cased);
                after_cased = c.is_uppercase() || c.is_lowercase();
                has_cased |= after_cased;
            }
            has_cased && is_title
        }
    }
}

fn cased(text: &str, method: &str) -> String {
    match method {
        "title" => {
            let mut after_cased = false;
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                push_titled(&mut out, c, after_cased);
                after_cased = c.is_uppercase() || c.is_lowercase();
            }
            out
        }
        "capitalize" => {
            let mut out = String::with_capacity(text.len());
            let mut chars = text.chars();
            if let Some(first) = chars.next() {
                push_titled(&mut out, first, false);
            }
            out.push_str(&chars.as_str().to_lowercase());
            out
        }
        "casefold" => text.to_lowercase().replace('ß', "ss").replace('ς', "σ"),
        _ => {
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                if c.is_uppercase() { out.extend(c.to_lowercase()) } else { out.extend(c.to_uppercase()) }
            }
            out
        }
    }
}

/// A letter in lower case after another, else in upper case: of one that is several letters then, only the first.
fn push_titled(out: &mut String, c: char, after_cased: bool) {
    if after_cased {
        out.extend(c.to_lowercase());
        return;
    }
    let mut upper = c.to_uppercase();
    out.extend(upper.next());
    upper.for_each(|c| out.extend(c.to_lowercase()));
}
