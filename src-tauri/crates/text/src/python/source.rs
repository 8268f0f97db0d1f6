//! A template's source as Jinja in Rust reads it the way Python's reads the original.
//!
//! What differs is spelt otherwise: line ends and escapes in strings, `%`, attributes that in Python are a dict's
//! methods, and the tags that mark answers for training.

use super::escapes::unescaped;
use super::strings::is_space;

/// The filter that `%` becomes.
pub(super) const PERCENT: &str = "python_percent";
/// The method that reads an attribute which a dict has in Python.
pub(super) const ATTRIBUTE: &str = "python_attribute";

/// The filter of what a `for` goes through.
pub(super) const ITERABLE: &str = "python_iterable";

/// What a dict has as attributes, which hide keys of these names, and what the sandbox lets a template have.
const OF_DICTS: &[&str] = &["items", "keys", "values", "get", "copy"];

/// The source, so spelt that it means here what it means in Python.
///
/// # Errors
/// A string in it has an escape that is none.
pub(crate) fn respelt(source: &str) -> Result<String, String> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min() {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let closing = match tag.as_bytes()[1] {
            b'{' => "}}",
            b'%' => "%}",
            _ => "#}",
        };
        let len = if closing == "#}" {
            tag.find(closing).map_or(tag.len(), |at| at + closing.len())
        } else {
            tag_len(tag, closing)
        };
        let (tag, after) = tag.split_at(len);
        let word = if closing == "%}" { tag.trim_matches(['{', '}', '%', '-', '+', ' ', '\n']) } else { "" };
        let is_raw = word == "raw";
        // A tag without an end is an error that the library words.
        if closing == "#}" || !tag.ends_with(closing) || tag.len() < 4 {
            out.push_str(tag);
        } else if let "generation" | "endgeneration" = word {
            // It means nothing here but that it is a scope of its own.
            out.push_str(&tag.replace("generation", "with"));
        } else if is_raw && !tag.ends_with("-%}") && !tag.ends_with("+%}") {
            // Python leaves the line's end after it.
            out.push_str(tag.trim_end_matches("%}"));
            out.push_str("+%}");
        } else {
            rewrite_tag(tag, &mut out)?;
        }
        rest = after;
        // What is raw is no expression.
        if is_raw {
            let end = rest.find("endraw").unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Bytes of the tag that `text` begins with.
fn tag_len(text: &str, closing: &str) -> usize {
    let mut at = 2;
    while at < text.len() {
        if text[at..].starts_with(closing) {
            return at + closing.len();
        }
        at += token_len(&text[at..]);
    }
    text.len()
}

/// Bytes of the word, string or sign that `text` begins with.
fn token_len(text: &str) -> usize {
    let Some(first) = text.chars().next() else { return 0 };
    if first == '\'' || first == '"' {
        let mut escaped = false;
        let end = text.char_indices().skip(1).find(|&(_, c)| {
            let ends = c == first && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        return end.map_or(text.len(), |(at, _)| at + 1);
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if is_word(first) {
        return text.find(|c| !is_word(c)).unwrap_or(text.len());
    }
    first.len_utf8()
}

fn rewrite_tag(tag: &str, out: &mut String) -> Result<(), String> {
    // The opening sign, and the closing one with the sign for white space before it, are no expression.
    let inner_end = tag.len().saturating_sub(2);
    let mut at = 2.min(tag.len());
    out.push_str(&tag[..at]);
    // For each bracket that is open, the operator before the operand that is being read.
    let mut before: Vec<&str> = vec![""];
    // For each, whether the sum that is being read has a text in it that is safe for HTML.
    let mut is_markup = vec![false];
    let mut loops = Loop::of(tag);
    let mut last = "";
    // What a `set` sets is no value that is read.
    let mut is_target = tag[2..].trim_start_matches(['-', '+', ' ', '\n', '\t']).starts_with("set ");
    while at < inner_end {
        let token = &tag[at..at + token_len(&tag[at..])];
        if before.len() == 1 {
            loops.before(token, tag[at + token.len()..].trim_start(), out);
        }
        if token.starts_with(['\'', '"']) {
            write_string(token, out)?;
            at += token.len();
            last = token;
            continue;
        }
        is_target &= token != "=";
        // A sign that changes nothing; after the tag's opening and before its end it is one for white space.
        if token == "+" && at > 2 && at + 1 < inner_end && !is_operand_end(last) {
            at += 1;
            continue;
        }
        if token == "."
            && is_operand_end(last)
            && !is_target
            && let Some(name) = attribute_of_dicts(&tag[at..inner_end])
        {
            out.push_str(&format!(".{ATTRIBUTE}('{name}')"));
            at += name.len() + 1;
            last = ")";
            continue;
        }
        // Python escapes what is added to a text that is safe for HTML.
        if token == "+" && is_operand_end(last) && is_markup.last() == Some(&true) {
            let end = at + 1 + operand_len(&tag[at + 1..inner_end]);
            let mut inner = String::new();
            rewrite_tag(&format!("{{{{{}}}}}", &tag[at + 1..end]), &mut inner)?;
            out.push_str(&format!("+ ({} | e)", &inner[2..inner.len() - 2]));
            at = end;
            last = ")";
            continue;
        }
        if token == "%"
            && is_operand_end(last)
            && !matches!(before.last(), Some(&("*" | "/" | "%" | "-" | "+")))
        {
            let start = at + 1;
            let end = start + operand_len(&tag[start..inner_end]);
            let operand = tag[start..end].trim();
            if !operand.is_empty() {
                out.push_str(&format!(" | {PERCENT}("));
                // An operand may have another `%` within.
                let mut inner = String::new();
                rewrite_tag(&format!("{{{{{operand}}}}}"), &mut inner)?;
                out.push_str(&inner[2..inner.len() - 2]);
                out.push(')');
                at = end;
                last = ")";
                continue;
            }
        }
        match token {
            "(" | "[" | "{" => {
                before.push("");
                is_markup.push(false);
            }
            ")" | "]" | "}" if before.len() > 1 => {
                before.pop();
                is_markup.pop();
            }
            ")" | "]" | "}" => {}
            "*" | "/" | "%" => {
                if let Some(operator) = before.last_mut() {
                    *operator = token;
                }
            }
            // A sign, not a sum, where no operand stands before it.
            "-" | "+" => {
                if let Some(operator) = before.last_mut() {
                    *operator = if is_operand_end(last) { "" } else { token };
                }
            }
            _ if !token.trim().is_empty() && !is_part_of_operand(token) => {
                if let Some(operator) = before.last_mut() {
                    *operator = "";
                }
            }
            _ => {}
        }
        if let Some(is_markup) = is_markup.last_mut()
            && !matches!(token, "(" | ")" | "[" | "]" | "{" | "}" | "+")
            && !token.trim().is_empty()
        {
            let makes_safe = last == "|" && matches!(token, "safe" | "e" | "escape" | "forceescape");
            *is_markup = makes_safe || *is_markup && is_part_of_operand(token);
        }
        if !token.trim().is_empty() {
            last = token;
        }
        // Spaces that Rust's Jinja does not know between words.
        out.push_str(if token.starts_with(is_space) && !matches!(token, "\n" | "\t") { " " } else { token });
        at += token.len();
    }
    loops.end(tag, out);
    out.push_str(&tag[at.min(tag.len())..]);
    Ok(())
}

/// Where a `for` is that puts what it goes through into brackets and a filter after them.
enum Loop {
    /// It is no `for`, or what it goes through is behind.
    None,
    Targets,
    Next,
    Iterable,
}

impl Loop {
    fn of(tag: &str) -> Loop {
        let is_loop = tag[2..].trim_start_matches(['-', '+', ' ', '\n', '\t']).starts_with("for ");
        if is_loop && tag.starts_with("{%") { Loop::Targets } else { Loop::None }
    }

    /// Is told of each token outside of brackets, before it is written.
    fn before(&mut self, token: &str, after: &str, out: &mut String) {
        match self {
            Loop::Targets if token == "in" => *self = Loop::Next,
            Loop::Next => {
                out.push_str(" (");
                *self = Loop::Iterable;
            }
            Loop::Iterable if token == "if" || token == "recursive" && ends_tag(after) => {
                self.close(out);
            }
            _ => {}
        }
    }

    /// Is told of the tag's end, before that is written.
    fn end(&mut self, tag: &str, out: &mut String) {
        if !matches!(self, Loop::Iterable) {
            return;
        }
        // A sign for white space belongs to the tag's end.
        let has_sign = tag.ends_with("-%}") || tag.ends_with("+%}");
        let sign = if has_sign { out.pop() } else { None };
        self.close(out);
        out.extend(sign);
    }

    fn close(&mut self, out: &mut String) {
        out.push_str(&format!(") | {ITERABLE} "));
        *self = Loop::None;
    }
}

fn ends_tag(text: &str) -> bool {
    text.trim_start_matches(['-', '+']).starts_with("%}")
}

/// The name of a dict's method that `text`, which begins with a full stop, reads and does not call.
fn attribute_of_dicts(text: &str) -> Option<&str> {
    let name = &text[1..1 + token_len(&text[1..])];
    let is_called = || text[1 + name.len()..].trim_start().starts_with('(');
    (OF_DICTS.contains(&name) && !is_called()).then_some(name)
}

/// Writes a string with the escapes that Rust's Jinja knows for what Python understands by those that it has.
fn write_string(token: &str, out: &mut String) -> Result<(), String> {
    let quote = &token[..1];
    let Some(inner) = token[1..].strip_suffix(quote) else {
        // It has no end, which the library words.
        out.push_str(token);
        return Ok(());
    };
    out.push('"');
    for c in unescaped(inner)?.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    Ok(())
}

const KEYWORDS: [&str; 12] =
    ["and", "or", "not", "in", "is", "if", "else", "elif", "set", "for", "filter", "call"];

fn is_operand_end(token: &str) -> bool {
    let is_word = token.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_');
    (is_word && !KEYWORDS.contains(&token)) || token.starts_with(['\'', '"', ')', ']', '}'])
}

fn is_part_of_operand(token: &str) -> bool {
    is_operand_end(token) || token == "." || token == "|"
}

/// Bytes of the operand that `text` begins with: a value with what is read or called of it, and its filters.
fn operand_len(text: &str) -> usize {
    let mut at = text.len() - text.trim_start().len();
    let mut expects_value = true;
    while at < text.len() {
        let rest = &text[at..];
        let token = &rest[..token_len(rest)];
        if token.trim().is_empty() {
            // White space ends an operand unless a filter or an attribute follows.
            let next = rest.trim_start();
            if expects_value || next.starts_with(['|', '.']) && !next.starts_with("||") {
                at += rest.len() - next.len();
                continue;
            }
            return at;
        }
        match token {
            "(" | "[" | "{" => {
                if token != "(" && token != "[" && !expects_value {
                    return at;
                }
                let mut depth = 0usize;
                let mut inner = at;
                loop {
                    let piece = &text[inner..];
                    let token = &piece[..token_len(piece)];
                    match token {
                        "(" | "[" | "{" => depth += 1,
                        ")" | "]" | "}" => depth -= 1,
                        "" => return text.len(),
                        _ => {}
                    }
                    inner += token.len();
                    if depth == 0 {
                        break;
                    }
                }
                at = inner;
                expects_value = false;
            }
            "." | "|" => {
                at += 1;
                expects_value = true;
            }
            _ if is_operand_end(token) && expects_value => {
                at += token.len();
                expects_value = false;
            }
            "-" | "+" if expects_value => at += 1,
            _ => return at,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::respelt;

    fn check(source: &str, want: &str) {
        assert_eq!(respelt(source).as_deref(), Ok(want), "{source}");
    }

    #[test]
    fn tags_without_an_end_are_left_as_they_are() {
        for source in [
            "{% if 0 %\u{532}{",
            "{{ 1 % \u{532}",
            "{%",
            "{{}",
            "{% x %é",
            "{{ 'a % ",
            "{% if 1 %2e,e{% ma f(x) %   %2e,e 0 %\u{532}{",
        ] {
            check(source, source);
        }
    }

    #[test]
    fn only_what_differs_is_spelt_otherwise() {
        let long =
            "{%- for m in messages[1:] -%}\n  {{- m.content | trim }}{# 5 % 2 #}\n{%- endfor %}100 % sure";
        check(
            long,
            &long.replace("messages[1:] -", " (messages[1:] ) | python_iterable -").replace("in  (", "in ( "),
        );
        check(
            "{{ a.items }} {{ a.items() }} {{ a['items'] }}",
            "{{ a.python_attribute('items') }} {{ a.items() }} {{ a[\"items\"] }}",
        );
        check("{% set ns.items = b.keys %}", "{% set ns.items = b.python_attribute('keys') %}");
        check("{% generation %}a{%- endgeneration -%}", "{% with %}a{%- endwith -%}");
        check("a\r\nb\rc", "a\nb\nc");
        check("{{ '\\'\\d\\x41\\\\' }}", "{{ \"'\\\\dA\\\\\" }}");
        check("{% raw %}{{ a.items }}{% endraw %}", "{% raw +%}{{ a.items }}{% endraw %}");
    }

    #[test]
    fn an_escape_that_is_none_is_an_error() {
        for source in [
            "{{ '\\x4' }}",
            "{{ '\\u12g4' }}",
            "{{ '\\ud800' }}",
            "{{ '\\ud800\\u0041' }}",
            "{{ '\\N{DASH}' }}",
        ] {
            assert!(respelt(source).is_err(), "{source}");
        }
    }
}
