//! Calls as literals: `[f(a=1, b='x')]` as Python writes them, or `call:f{a:1,b:QxQ}` with a marker Q for a quote.

use serde_json::Value;

use super::found::{Found, Match, begins, find, head, is_space, leading_space};
use super::said::{MAX_NAME_BYTES, Read, Said, is_offered, say, say_escaped};
use crate::Tool;
use crate::parameters::properties;

/// White space between a quote and what shows that it ends its text.
const MAX_SPACE_BYTES: usize = 64;
/// Lists and objects within each other.
const MAX_DEPTH: usize = 128;

/// How literals are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style<'a> {
    Python,
    /// With this around strings.
    Braced(&'a str),
}

/// Reads the calls of one body.
#[derive(Debug)]
pub(crate) struct LiteralCalls {
    at: At,
    /// What is open, the outermost first: the arguments themselves.
    open: Vec<Open>,
    is_list: bool,
    tool: Option<usize>,
    /// Arguments or elements so far of what is open innermost.
    n_values: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Arguments,
    Object,
    List,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    Start,
    Name,
    /// A key, or the end of what is open.
    Key,
    Colon,
    /// A value, or the end of a list.
    Value,
    /// Within a string that ends with this.
    Text(String),
    AfterValue,
    NextCall,
}

impl LiteralCalls {
    pub(crate) fn new() -> LiteralCalls {
        LiteralCalls { at: At::Start, open: Vec::new(), is_list: false, tool: None, n_values: Vec::new() }
    }

    /// Reads on.
    pub(crate) fn read(
        &mut self,
        text: &str,
        style: Style<'_>,
        tools: &[Tool],
        is_last: bool,
        said: &mut Vec<Said>,
    ) -> Read {
        let mut done = 0;
        loop {
            if !matches!(self.at, At::Text(_)) {
                done += leading_space(&text[done..]);
            }
            let rest = &text[done..];
            let Some(c) = rest.chars().next() else { return Read::Wait(done) };
            let step = match &self.at {
                At::Start => self.start(c, style),
                At::Name => self.name(rest, style, tools, said),
                At::NextCall => match c {
                    ',' => self.go(1, At::Name),
                    ']' => return Read::Done(done + 1),
                    _ => Step::Refuse,
                },
                At::Key => self.key(rest, c, (style, is_last), tools, said),
                At::Colon => match c {
                    ':' | '=' => self.go(c.len_utf8(), At::Value),
                    _ => Step::Refuse,
                },
                At::Value => self.value(rest, c, (style, is_last), said),
                At::Text(quote) => {
                    let quote = quote.clone();
                    self.text(rest, &quote, style, is_last, said)
                }
                At::AfterValue => match c {
                    ',' => {
                        let at = if self.open.last() == Some(&Open::List) { At::Value } else { At::Key };
                        self.go(1, at)
                    }
                    ')' | '}' | ']' => self.close(said),
                    _ => Step::Refuse,
                },
            };
            match step {
                Step::On(n) => done += n,
                Step::Wait => return Read::Wait(done),
                Step::Part(n) => return Read::Wait(done + n),
                Step::Ended(n) => return Read::Took(done + n),
                Step::Done(n) => return Read::Done(done + n),
                Step::Refuse => return Read::Refuse(done),
            }
        }
    }

    fn go(&mut self, n: usize, at: At) -> Step {
        self.at = at;
        Step::On(n)
    }

    fn start(&mut self, c: char, style: Style<'_>) -> Step {
        self.is_list = matches!(style, Style::Python) && c == '[';
        self.go(usize::from(self.is_list), At::Name)
    }

    fn name(&mut self, rest: &str, style: Style<'_>, tools: &[Tool], said: &mut Vec<Said>) -> Step {
        let (before, bracket) = match style {
            Style::Python => ("", "("),
            Style::Braced(_) => ("call:", "{"),
        };
        let name = head(rest, MAX_NAME_BYTES);
        let end = match find(name, &[bracket]) {
            Found::At { at, .. } => at,
            _ if rest.len() > MAX_NAME_BYTES => return Step::Refuse,
            // A name has no white space in it: so much is clear at once.
            _ if name.trim_end_matches(is_space).contains(is_space) => return Step::Refuse,
            _ => return Step::Wait,
        };
        let name = rest[..end].trim_matches(is_space);
        let name = name.strip_prefix(before).unwrap_or(name);
        if !is_offered(tools, name) {
            return Step::Refuse;
        }
        self.tool = tools.iter().position(|tool| tool.name == name);
        said.push(Said::Name(name.to_owned()));
        self.open(Open::Arguments, said);
        self.go(end + bracket.len(), At::Key)
    }

    fn open(&mut self, open: Open, said: &mut Vec<Said>) {
        self.open.push(open);
        self.n_values.push(0);
        say(said, if open == Open::List { "[" } else { "{" });
    }

    fn close(&mut self, said: &mut Vec<Said>) -> Step {
        self.n_values.pop();
        let closed = self.open.pop();
        say(said, if closed == Some(Open::List) { "]" } else { "}" });
        self.at = At::AfterValue;
        if !self.open.is_empty() {
            return Step::On(1);
        }
        said.push(Said::End);
        if !self.is_list {
            return Step::Done(1);
        }
        self.at = At::NextCall;
        Step::Ended(1)
    }

    /// Begin the next of what is open, and give its number.
    fn next(&mut self, said: &mut Vec<Said>) -> usize {
        let Some(n) = self.n_values.last_mut() else { return 0 };
        *n += 1;
        let n = *n;
        if n > 1 {
            say(said, ", ");
        }
        n - 1
    }

    fn say_key(&mut self, key: &str, said: &mut Vec<Said>) {
        self.next(said);
        say(said, &format!("{}: ", Value::from(key)));
    }

    fn key(
        &mut self,
        rest: &str,
        c: char,
        (style, is_last): (Style<'_>, bool),
        tools: &[Tool],
        said: &mut Vec<Said>,
    ) -> Step {
        if matches!(c, ')' | '}') {
            return self.close(said);
        }
        let is_positional = matches!(style, Style::Python) && self.open == [Open::Arguments];
        match quote_at(rest, style, is_last) {
            Quote::Maybe => return Step::Wait,
            Quote::Yes(_) if is_positional => return self.positional(tools, said),
            Quote::Yes(quote) => {
                // A key is read whole.
                let inside = &rest[quote.len()..];
                return match quoted(head(inside, MAX_NAME_BYTES), &quote, style) {
                    Some((key, len)) => {
                        self.say_key(&key, said);
                        self.go(quote.len() + len, At::Colon)
                    }
                    None if inside.len() > MAX_NAME_BYTES => Step::Refuse,
                    None => Step::Wait,
                };
            }
            Quote::No => {}
        }
        if is_positional && !(c.is_alphabetic() || c == '_') {
            return self.positional(tools, said);
        }
        let word = head(rest, MAX_NAME_BYTES);
        let end = word.find(|c: char| is_space(c) || matches!(c, ':' | '=' | ',' | ')' | '}' | ']'));
        match end {
            Some(0) => Step::Refuse,
            Some(end) => {
                let after = rest[end..].trim_start_matches(is_space);
                match after.chars().next() {
                    None => Step::Wait,
                    Some(':' | '=') => {
                        self.say_key(&rest[..end], said);
                        self.go(end, At::Colon)
                    }
                    // `f(True)`
                    Some(_) if is_positional => self.positional(tools, said),
                    Some(_) => Step::Refuse,
                }
            }
            None if rest.len() > MAX_NAME_BYTES => Step::Refuse,
            None => Step::Wait,
        }
    }

    /// A value without a key: it is the argument that stands there in the schema.
    fn positional(&mut self, tools: &[Tool], said: &mut Vec<Said>) -> Step {
        let n = self.n_values.last().copied().unwrap_or(0);
        let names = self.tool.and_then(|i| properties(&tools[i]));
        let name = names.and_then(|names| names.keys().nth(n)).cloned();
        self.say_key(&name.unwrap_or_else(|| format!("arg{n}")), said);
        self.go(0, At::Value)
    }

    fn value(
        &mut self,
        rest: &str,
        c: char,
        (style, is_last): (Style<'_>, bool),
        said: &mut Vec<Said>,
    ) -> Step {
        let in_list = self.open.last() == Some(&Open::List);
        if in_list && matches!(c, ']' | ')') {
            return self.close(said);
        }
        if self.open.len() >= MAX_DEPTH {
            return Step::Refuse;
        }
        match quote_at(rest, style, is_last) {
            Quote::Maybe => return Step::Wait,
            Quote::Yes(quote) => {
                if in_list {
                    self.next(said);
                }
                say(said, "\"");
                return self.go(quote.len(), At::Text(quote));
            }
            Quote::No => {}
        }
        match c {
            '[' | '(' | '{' => {
                if in_list {
                    self.next(said);
                }
                let (open, at) = if c == '{' { (Open::Object, At::Key) } else { (Open::List, At::Value) };
                self.open(open, said);
                self.go(1, at)
            }
            _ => {
                let word = head(rest, MAX_NAME_BYTES);
                let end = word.find(|c: char| is_space(c) || matches!(c, ',' | ')' | '}' | ']'));
                let end = match end {
                    Some(0) => return Step::Refuse,
                    Some(end) => end,
                    None if is_last && rest.len() <= MAX_NAME_BYTES => {
                        if in_list {
                            self.next(said);
                        }
                        say(said, rest);
                        return Step::Part(rest.len());
                    }
                    None if rest.len() > MAX_NAME_BYTES => return Step::Refuse,
                    None => return Step::Wait,
                };
                if in_list {
                    self.next(said);
                }
                say(said, &scalar(&rest[..end]));
                self.go(end, At::AfterValue)
            }
        }
    }

    fn text(
        &mut self,
        rest: &str,
        quote: &str,
        style: Style<'_>,
        is_last: bool,
        said: &mut Vec<Said>,
    ) -> Step {
        let has_escapes = quote.len() == 1;
        let backslash = if has_escapes { "\\" } else { "" };
        match find(rest, &[quote, backslash]) {
            Found::At { at, marker: 0 } => {
                say_escaped(said, &rest[..at]);
                match ends_text(&rest[at + quote.len()..], style, is_last) {
                    Match::Yes => {
                        say(said, "\"");
                        self.go(at + quote.len(), At::AfterValue)
                    }
                    Match::Maybe => Step::Part(at),
                    Match::No => {
                        say_escaped(said, quote);
                        Step::On(at + quote.len())
                    }
                }
            }
            Found::At { at, .. } => {
                say_escaped(said, &rest[..at]);
                match escape(&rest[at..], style, is_last) {
                    Some((text, len)) => {
                        say_escaped(said, &text);
                        Step::On(at + len)
                    }
                    None => Step::Part(at),
                }
            }
            Found::MaybeAt(at) if !is_last => {
                say_escaped(said, &rest[..at]);
                Step::Part(at)
            }
            Found::MaybeAt(_) | Found::No => {
                say_escaped(said, rest);
                Step::Part(rest.len())
            }
        }
    }
}

/// What became of a piece of text.
enum Step {
    /// So many bytes are done.
    On(usize),
    /// None is, until more is there.
    Wait,
    /// So many are, and no more until more is there.
    Part(usize),
    /// So many are, and with them one call of several.
    Ended(usize),
    /// So many are, and with them all calls.
    Done(usize),
    Refuse,
}

enum Quote {
    Yes(String),
    No,
    Maybe,
}

/// Whether what follows a quote shows that it ends its text. Models write quotes within a text as they are, and so do
/// some templates: such a one has more of the text behind it.
fn ends_text(after: &str, style: Style<'_>, is_last: bool) -> Match {
    if let Style::Braced(_) = style {
        return Match::Yes;
    }
    let space = leading_space(after);
    match after[space..].chars().next() {
        _ if space > MAX_SPACE_BYTES => Match::Yes,
        Some(',' | ')' | ']' | '}' | ':') => Match::Yes,
        Some(_) => Match::No,
        None if is_last => Match::Yes,
        None => Match::Maybe,
    }
}

/// Whether a string begins here, and with what it ends.
fn quote_at(text: &str, style: Style<'_>, is_last: bool) -> Quote {
    let marks: &[&str] = match style {
        Style::Python => &["\"\"\"", "'''", "\"", "'"],
        Style::Braced(quote) => &[quote, "\""],
    };
    let mut shorter: Option<&str> = None;
    for mark in marks {
        match begins(text, mark) {
            // `""` is a string, unless a third one follows.
            Match::Maybe if !is_last => return Quote::Maybe,
            Match::Yes if shorter.is_none() => shorter = Some(mark),
            _ => {}
        }
    }
    shorter.map_or(Quote::No, |mark| Quote::Yes(mark.to_owned()))
}

/// The text up to this quote, and its bytes with that; none while it is incomplete.
fn quoted(text: &str, quote: &str, style: Style<'_>) -> Option<(String, usize)> {
    let backslash = if quote.len() == 1 { "\\" } else { "" };
    let (mut so_far, mut done) = (String::new(), 0);
    loop {
        let rest = &text[done..];
        let Found::At { at, marker } = find(rest, &[quote, backslash]) else { return None };
        so_far.push_str(&rest[..at]);
        if marker == 0 {
            return Some((so_far, done + at + quote.len()));
        }
        let (escaped, len) = escape(&rest[at..], style, false)?;
        so_far.push_str(&escaped);
        done += at + len;
    }
}

/// The text that the escape at the start of `text` stands for, and its bytes; none while it is incomplete.
fn escape(text: &str, style: Style<'_>, is_last: bool) -> Option<(String, usize)> {
    let c = text.chars().nth(1);
    let Some(c) = c else { return is_last.then(|| ("\\".to_owned(), 1)) };
    let short = |text: &str| Some((text.to_owned(), 1 + c.len_utf8()));
    let digits = match (c, style) {
        ('n', _) => return short("\n"),
        ('t', _) => return short("\t"),
        ('r', _) => return short("\r"),
        ('b', _) => return short("\u{8}"),
        ('f', _) => return short("\u{c}"),
        ('0', Style::Python) => return short("\0"),
        ('\n', Style::Python) => return short(""),
        ('\\' | '\'' | '"' | '/', _) => return short(c.encode_utf8(&mut [0; 4])),
        ('x', Style::Python) => 2,
        ('u', _) => 4,
        ('U', Style::Python) => 8,
        // Not an escape: as it stands.
        _ => return Some((format!("\\{c}"), 1 + c.len_utf8())),
    };
    let hex: String = text[2..].chars().take(digits).collect();
    if hex.len() < digits && !is_last && is_hex(&hex) {
        return None;
    }
    let unit = u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == digits && is_hex(&hex));
    match unit {
        // A surrogate is half of a character, and JSON's other half follows.
        Some(high @ 0xd800..=0xdbff) => {
            let rest = &text[2 + digits..];
            let may_follow = rest.len() < 6 && begins(rest.get(..2).unwrap_or(rest), "\\u") != Match::No;
            if may_follow && !is_last {
                return None;
            }
            let low = rest.strip_prefix("\\u").and_then(|rest| rest.get(..4));
            let low = low.filter(|hex| is_hex(hex)).and_then(|hex| u32::from_str_radix(hex, 16).ok());
            let low = low.filter(|low| (0xdc00..=0xdfff).contains(low));
            let both = low.and_then(|low| char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)));
            match both {
                Some(c) => Some((c.to_string(), 2 + digits + 6)),
                None => Some((char::REPLACEMENT_CHARACTER.to_string(), 2 + digits)),
            }
        }
        Some(unit) => {
            let c = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
            Some((c.to_string(), 2 + digits))
        }
        None => Some((format!("\\{c}"), 1 + c.len_utf8())),
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A word as JSON.
fn scalar(word: &str) -> String {
    match word {
        "True" | "true" => "true".to_owned(),
        "False" | "false" => "false".to_owned(),
        "None" | "none" | "null" => "null".to_owned(),
        word if serde_json::from_str::<serde_json::Number>(word).is_ok() => word.to_owned(),
        word => Value::from(word).to_string(),
    }
}
