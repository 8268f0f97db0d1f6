//! Regular expressions and formats of strings: which can be held to.

use llguidance::derivre::{RegexAst, RegexBuilder};
use llguidance::regex_to_lark;
use serde_json::{Map, Value, json};

use super::fault::SchemaFault;
use super::place::Place;

/// Bytes of a pattern.
const MAX_PATTERN_BYTES: usize = 16 << 10;
/// How deep groups of a pattern may lie within each other.
const MAX_PATTERN_DEPTH: usize = 100;

/// What can be made of a client's pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// This means the same.
    Exact(String),
    /// This takes all that the client's takes, and more.
    Wider(String),
    /// Nothing.
    None,
}

/// Patterns that libraries write for their own types, and the same without look-ahead.
const REWRITTEN: &[(&str, &str)] = &[
    // pydantic's `Decimal`.
    (r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$", r"^[+-]?(?:\d+\.?\d*|\.\d+)$"),
    // zod's `duration`: at least one part, and with a `T` one of a time.
    (
        r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$",
        r"^P(?:\d+W|T(?:\d+H(?:\d+M)?(?:\d+(?:[.,]\d+)?S)?|\d+M(?:\d+(?:[.,]\d+)?S)?|\d+(?:[.,]\d+)?S)|(?:\d+Y(?:\d+M)?(?:\d+D)?|\d+M(?:\d+D)?|\d+D)(?:T(?:\d+H(?:\d+M)?(?:\d+(?:[.,]\d+)?S)?|\d+M(?:\d+(?:[.,]\d+)?S)?|\d+(?:[.,]\d+)?S))?)$",
    ),
    // zod's `email`: no dot at the start, no two in a row; in words without look-ahead.
    (
        r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$",
        r"^(?:[A-Za-z0-9_'+\-]+\.)*(?:[A-Za-z0-9_'+\-]*[A-Za-z0-9_+\-])@(?:[A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$",
    ),
];

/// What can be held to of the pattern that stands `at` its place.
///
/// # Errors
/// It goes beyond a bound.
pub(super) fn read(pattern: &str, at: &Place<'_>) -> Result<Pattern, SchemaFault> {
    let n_bytes = pattern.len();
    if n_bytes > MAX_PATTERN_BYTES {
        let message = format!("the pattern has {n_bytes} bytes, at most {MAX_PATTERN_BYTES} are taken");
        return Err(at.fault(message));
    }
    if depth(pattern) > MAX_PATTERN_DEPTH {
        let message = format!("the pattern has groups that are nested more than {MAX_PATTERN_DEPTH} deep");
        return Err(at.fault(message));
    }
    Ok(usable(pattern))
}

/// How deep groups lie within each other, or seem to.
fn depth(pattern: &str) -> usize {
    let (mut depth, mut deepest, mut is_escaped) = (0_usize, 0, false);
    for byte in pattern.bytes() {
        match byte {
            _ if is_escaped => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_escaped = byte == b'\\' && !is_escaped;
        deepest = deepest.max(depth);
    }
    deepest
}

fn usable(pattern: &str) -> Pattern {
    if let Some((_, rewritten)) = REWRITTEN.iter().find(|(theirs, _)| *theirs == pattern) {
        return Pattern::Exact((*rewritten).to_owned());
    }
    if compiles(pattern) {
        return Pattern::Exact(pattern.to_owned());
    }
    // Look-ahead only takes away.
    match without_look_ahead(pattern) {
        Some(wider) if compiles(&wider) => Pattern::Wider(wider),
        _ => Pattern::None,
    }
}

fn compiles(pattern: &str) -> bool {
    RegexBuilder::new().mk(&RegexAst::SearchRegex(regex_to_lark(pattern, "dw"))).is_ok()
}

/// The pattern without its look-ahead groups; nothing where it has none, or other things of that kind.
fn without_look_ahead(pattern: &str) -> Option<String> {
    let bytes = pattern.as_bytes();
    let (mut kept, mut at, mut found) = (String::new(), 0, false);
    while at < bytes.len() {
        let rest = &pattern[at..];
        if rest.starts_with("(?=") || rest.starts_with("(?!") {
            at += group_len(rest)?;
            found = true;
            continue;
        }
        let len = match bytes[at] {
            b'\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            b'[' => class_len(rest)?,
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        kept.push_str(&rest[..len]);
        at += len;
    }
    found.then_some(kept)
}

/// Bytes of the group that `text` begins with.
fn group_len(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        at += match rest.as_bytes()[0] {
            b'\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            b'[' => class_len(rest)?,
            b'(' => {
                depth += 1;
                1
            }
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
                1
            }
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
    }
    None
}

/// Bytes of the character class that `text` begins with.
fn class_len(text: &str) -> Option<usize> {
    let mut escaped = false;
    let first = 1 + usize::from(text[1..].starts_with('^'));
    text.char_indices().skip_while(|(at, _)| *at < first).find_map(|(at, c)| {
        let ends = c == ']' && !escaped && at > first;
        escaped = c == '\\' && !escaped;
        ends.then_some(at + 1)
    })
}

/// Formats that are held to; others are annotations.
pub(super) fn known_format(name: &str) -> Option<&str> {
    const FORMATS: [&str; 10] =
        ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
    FORMATS.contains(&name).then_some(name)
}

/// How long the parts of an address may be (RFC 5321), which the library's form of it does not say.
const ADDRESS_PARTS: &str = r"^[^@]{1,64}@(?:[^.@]{1,63}\.)*[^.@]{1,63}$";
/// Characters of an address.
const ADDRESS_CHARS: u64 = 254;

/// Holds addresses to their lengths, in a schema that has been read.
pub(super) fn bound_addresses(read: &mut Map<String, Value>) {
    if read.get("format").and_then(Value::as_str) != Some("email") {
        return;
    }
    let longest =
        read.get("maxLength").and_then(Value::as_u64).map_or(ADDRESS_CHARS, |n| n.min(ADDRESS_CHARS));
    read.insert("maxLength".into(), longest.into());
    if !read.contains_key("pattern") {
        read.insert("pattern".into(), ADDRESS_PARTS.into());
    } else if let Value::Array(all) = read.entry("allOf").or_insert_with(|| json!([])) {
        all.push(json!({"pattern": ADDRESS_PARTS}));
    }
}
