//! What chat templates take for granted because they were written for Python, and Jinja in Rust lacks: methods of
//! strings, and `%` on them.

use std::sync::LazyLock;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, context};
use minijinja_contrib::pycompat;

/// The filter that `%` becomes.
const PERCENT: &str = "python_percent";
/// Longest padding that a method may be asked for.
const MAX_WIDTH: usize = 1 << 16;

/// Adds methods, `%` and `default` as Python's Jinja has them.
pub(crate) fn add_to(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(unknown_method);
    environment.add_filter(PERCENT, percent);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
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

/// `left % right`: of a string a text with the values in it, else the remainder.
fn percent(state: &mut State<'_, '_>, left: Value, right: Value) -> Result<Value, Error> {
    if left.kind() == ValueKind::String {
        let mut arguments = vec![left];
        if right.is_tuple() {
            arguments.extend(right.try_iter()?);
        } else {
            arguments.push(right);
        }
        return state.apply_filter("format", &arguments);
    }
    static REMAINDERS: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);
    REMAINDERS.compile_expression("left % right")?.eval(context! { left, right })
}

/// Whitespace-separated or by a separator, from the right, at most `n` cuts.
fn rsplit(text: &str, separator: Option<&str>, n: Option<usize>) -> Vec<Value> {
    let n = n.map_or(usize::MAX, |n| n.saturating_add(1));
    let mut parts: Vec<Value> = match separator {
        Some(separator) => text.rsplitn(n, separator).map(Value::from).collect(),
        None => {
            let (mut rest, mut parts) = (text.trim_end(), Vec::new());
            while !rest.is_empty() && parts.len() + 1 < n {
                let at = rest.rfind(char::is_whitespace);
                let start = at.map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
                parts.push(Value::from(&rest[start..]));
                rest = rest[..at.unwrap_or(0)].trim_end();
            }
            let rest = rest.trim_start();
            if !rest.is_empty() {
                parts.push(Value::from(rest));
            }
            parts
        }
    };
    parts.reverse();
    parts
}

fn parted(before: &str, separator: &str, after: &str) -> Value {
    Value::from(minijinja::value::Tuple::new(vec![before.into(), separator.into(), after.into()]))
}

/// The methods of Python's strings that the library's own list lacks.
fn unknown_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, method, args);
    };
    let wrong = |what: &str| Error::new(ErrorKind::InvalidOperation, format!("{method}: {what}"));
    let string = |at: usize| args.get(at).and_then(Value::as_str);
    let need = |at: usize| string(at).ok_or_else(|| wrong("a string is wanted"));
    let separator = |at: usize| match need(at)? {
        "" => Err(wrong("the separator is empty")),
        separator => Ok(separator),
    };
    let width = || {
        let width = args.first().and_then(Value::as_usize).ok_or_else(|| wrong("a width is wanted"))?;
        if width > MAX_WIDTH { Err(wrong("the width is too large")) } else { Ok(width) }
    };
    let padding = || {
        let n = width()?.saturating_sub(text.chars().count());
        let fill = string(1).unwrap_or(" ");
        Ok::<(usize, &str), Error>((n, fill))
    };
    Ok(match method {
        "removeprefix" => Value::from(text.strip_prefix(need(0)?).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(need(0)?).unwrap_or(text)),
        "partition" => {
            let separator = separator(0)?;
            text.split_once(separator)
                .map_or_else(|| parted(text, "", ""), |(before, after)| parted(before, separator, after))
        }
        "rpartition" => {
            let separator = separator(0)?;
            text.rsplit_once(separator)
                .map_or_else(|| parted("", "", text), |(before, after)| parted(before, separator, after))
        }
        "rsplit" => {
            let (positional, kwargs) = minijinja::value::from_args::<(Rest<Value>, Kwargs)>(args)?;
            let by_name = kwargs.get::<Option<Value>>("sep")?;
            let cuts = positional.get(1).cloned().or(kwargs.get::<Option<Value>>("maxsplit")?);
            kwargs.assert_all_used()?;
            let by = positional.first().cloned().or(by_name).filter(|by| !by.is_none());
            let by = by.as_ref().map(|by| by.as_str().ok_or_else(|| wrong("a string is wanted")));
            let by = by.transpose()?;
            if by == Some("") {
                return Err(wrong("the separator is empty"));
            }
            // Below 0 means as often as there is something to cut.
            let cuts = cuts.and_then(|cuts| cuts.as_usize());
            Value::from(rsplit(text, by, cuts))
        }
        "index" | "rindex" => {
            let found = if method == "index" { text.find(need(0)?) } else { text.rfind(need(0)?) };
            let at = found.ok_or_else(|| wrong("there is no such text in it"))?;
            Value::from(text[..at].chars().count())
        }
        "ljust" => {
            let (n, fill) = padding()?;
            Value::from(format!("{text}{}", fill.repeat(n)))
        }
        "rjust" => {
            let (n, fill) = padding()?;
            Value::from(format!("{}{text}", fill.repeat(n)))
        }
        "center" => {
            let (n, fill) = padding()?;
            // As Python does: what is left over goes to the right, but to the left of a text of odd width.
            let left = n / 2 + (n & width()? & 1);
            Value::from(format!("{}{text}{}", fill.repeat(left), fill.repeat(n - left)))
        }
        "zfill" => {
            let n = width()?.saturating_sub(text.chars().count());
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            Value::from(format!("{sign}{}{digits}", "0".repeat(n)))
        }
        "casefold" => Value::from(text.to_lowercase()),
        "swapcase" => Value::from(
            text.chars()
                .flat_map(|c| {
                    let swapped: Vec<char> = if c.is_uppercase() {
                        c.to_lowercase().collect()
                    } else {
                        c.to_uppercase().collect()
                    };
                    swapped
                })
                .collect::<String>(),
        ),
        _ => return pycompat::unknown_method_callback(state, value, method, args),
    })
}

/// The source with each `%` between values written as a filter, which has a say in what it means. Where that would
/// bind otherwise than it stands (after another product or a sign) it is left, and means a remainder.
pub(crate) fn with_percent_as_filter(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
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
        // A tag without an end is an error that the library words.
        if closing == "#}" || !tag.ends_with(closing) || tag.len() < 4 {
            out.push_str(tag);
        } else {
            rewrite_tag(tag, &mut out);
        }
        rest = after;
        // What is raw is no expression.
        if closing == "%}" && tag.trim_matches(['{', '}', '%', '-', '+', ' ', '\n']) == "raw" {
            let end = rest.find("endraw").unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
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

fn rewrite_tag(tag: &str, out: &mut String) {
    // The opening sign, and the closing one with the sign for white space before it, are no expression.
    let inner_end = tag.len().saturating_sub(2);
    let mut at = 2.min(tag.len());
    out.push_str(&tag[..at]);
    // For each bracket that is open, the operator before the operand that is being read.
    let mut before: Vec<&str> = vec![""];
    let mut last = "";
    while at < inner_end {
        let token = &tag[at..at + token_len(&tag[at..])];
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
                rewrite_tag(&format!("{{{{{operand}}}}}"), &mut inner);
                out.push_str(&inner[2..inner.len() - 2]);
                out.push(')');
                at = end;
                last = ")";
                continue;
            }
        }
        match token {
            "(" | "[" | "{" => before.push(""),
            ")" | "]" | "}" => {
                before.pop();
                if before.is_empty() {
                    before.push("");
                }
            }
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
        if !token.trim().is_empty() {
            last = token;
        }
        out.push_str(token);
        at += token.len();
    }
    out.push_str(&tag[at.min(tag.len())..]);
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
    use super::*;

    fn render(source: &str) -> String {
        let mut environment = Environment::new();
        add_to(&mut environment);
        let source = with_percent_as_filter(source);
        let rendered =
            environment.render_str(&source, context! { n => 7, s => "a-b-c", f => "%s!", x => (), e => "" });
        rendered.unwrap_or_else(|error| format!("{error} in {source}"))
    }

    #[test]
    fn strings_have_pythons_methods() {
        for (source, want) in [
            (
                "{{ s.removeprefix('a-') }} {{ s.removeprefix('x') }} {{ s.removesuffix('-c') }}",
                "b-c a-b-c a-b",
            ),
            ("{{ s.partition('-') | join('|') }} {{ s.partition('+') | join('|') }}", "a|-|b-c a-b-c||"),
            ("{{ s.rpartition('-') | join('|') }} {{ s.rpartition('+') | join('|') }}", "a-b|-|c ||a-b-c"),
            ("{{ s.rsplit('-', 1) | join('|') }} {{ s.rsplit('-') | join('|') }}", "a-b|c a|b|c"),
            (
                "{{ ' x  y z '.rsplit(none, 1) | join('|') }} {{ ' x  y '.rsplit() | join('|') }}",
                "x  y|z x|y",
            ),
            ("{{ s.rsplit('-', maxsplit=1)[-1] }} {{ s.rsplit(sep='-')[0] }}", "c a"),
            ("{{ 'ab'.ljust(4, '.') }}{{ 'ab'.rjust(4) }}{{ 'ab'.center(5, '*') }}", "ab..  ab**ab*"),
            (
                "{{ '-7'.zfill(4) }} {{ '42'.zfill(1) }} {{ 'aB'.swapcase() }} {{ 'AB'.casefold() }}",
                "-007 42 Ab ab",
            ),
            ("{{ s.index('b') }} {{ s.rindex('-') }}", "2 3"),
            ("{{ s.split('-')[1] }} {{ s.strip('a') }} {{ s.title() }}", "b -b-c A-B-C"),
        ] {
            assert_eq!(render(source), want, "{source}");
        }
        assert!(render("{{ s.index('x') }}").contains("no such text"));
        assert!(render("{{ s.partition('') }}").contains("empty"));
        assert!(render("{{ s.center(99999999999) }}").contains("too large"));
        assert!(render("{{ s.no_such() }}").contains("no_such"));
    }

    #[test]
    fn percent_puts_values_into_a_string_and_is_a_remainder_of_numbers() {
        for (source, want) in [
            ("{{ '%s and %d' % (s, n) }}", "a-b-c and 7"),
            ("{{ 'n=%03d' % n }} {{ f % s }} {{ f % 'x' }}", "n=007 a-b-c! x!"),
            ("{{ '%.1f%%' % 2.25 }}", "2.2%"),
            (
                "{{ n % 2 }} {{ n % 4 == 3 }} {{ (n + 1) % 3 }} {{ 2 * n % 5 }} {{ n % 4 * 2 }}",
                "1 True 2 4 6",
            ),
            ("{% if n % 2 == 1 and n%3 == 1 %}odd{% endif %}", "odd"),
            ("{% for i in range(4) %}{{ 'e' if loop.index0 % 2 == 0 else 'o' }}{% endfor %}", "eoeo"),
            ("{{ '%s' % s|upper }} {{ '%s' % [s, s][0].title() }}", "A-B-C A-B-C"),
            ("{{ '%s-%s' % ('%d' % n, 1) }} {{ 'a % b' }} {# 5 % 2 #}100 % sure", "7-1 a % b 100 % sure"),
            ("{% raw %}{{ '%s' % n }}{% endraw %}{%- set t = '%s' % n -%} {{ t }}", "{{ '%s' % n }}7"),
            ("{{ -7 % 4 }} {{ 7 % -4 }} {{ 10 / 4 % 2 }} {{ {'a': n % 2}.a }}", "1 -1 0.5 1"),
        ] {
            assert_eq!(render(source), want, "{source}");
        }
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
            assert_eq!(with_percent_as_filter(source), source);
        }
    }

    #[test]
    fn default_takes_its_arguments_by_place_and_by_name() {
        for (source, want) in [
            ("{{ nothing | default('a') }}{{ nothing | d }}{{ n | default('a') }}", "a7"),
            (
                "{{ e | default('a', boolean=true) }}{{ e | default('a', true) }}[{{ e | default('a') }}]",
                "aa[]",
            ),
            (
                "{{ x | default('a', boolean=True) }} {{ x | default(default_value='b', boolean=true) }}",
                "a b",
            ),
        ] {
            assert_eq!(render(source), want, "{source}");
        }
    }
}
