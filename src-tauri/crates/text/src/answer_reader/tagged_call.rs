//! A call as tags: a name, and each argument between tags of its own. A string runs to the first closing tag that ends
//! the argument; what another value is its schema says.

use serde_json::Value;

use super::found::{Found, Match, begins, find, head, is_space, leading_space};
use super::said::{MAX_NAME_BYTES, Read, Said, is_offered, say, say_escaped};
use crate::Tool;
use crate::answer_form::call_form::Tags;
use crate::parameters::{Kind, kind, value};

/// White space that may stand between a closing tag and what shows that it closes.
const MAX_SPACE_BYTES: usize = 64;
/// Bytes of a value that is not text: one that is longer is text.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// Reads one call.
#[derive(Debug)]
pub(crate) struct TaggedCall {
    at: At,
    tool: Option<usize>,
    n_arguments: usize,
}

#[derive(Debug)]
enum At {
    Name,
    Key,
    KeyName,
    BeforeValue(String),
    /// `quote` is what closes it before its tag, where it is quoted.
    Value {
        kind: Kind,
        is_fresh: bool,
        quote: &'static str,
        text: String,
    },
}

impl TaggedCall {
    pub(crate) fn new() -> TaggedCall {
        TaggedCall { at: At::Name, tool: None, n_arguments: 0 }
    }

    /// Reads on. `close` is what ends the call where the form has no end of its own; `is_last` says that no more comes.
    pub(crate) fn read(
        &mut self,
        text: &str,
        (tags, close): (&Tags<String>, &str),
        tools: &[Tool],
        is_last: bool,
        said: &mut Vec<Said>,
    ) -> Read {
        let end = if tags.end.is_empty() { close } else { &tags.end };
        let mut done = 0;
        loop {
            let rest = &text[done..];
            match &mut self.at {
                At::Name => {
                    let (at, len) = match name_end(head(rest, MAX_NAME_BYTES), tags, end) {
                        Some(found) => found,
                        None if rest.len() > MAX_NAME_BYTES => return Read::Refuse(done),
                        None => return Read::Wait(done),
                    };
                    let name = rest[..at].trim_matches(is_space);
                    if !is_offered(tools, name) {
                        return Read::Refuse(done);
                    }
                    self.tool = tools.iter().position(|tool| tool.name == name);
                    said.push(Said::Name(name.to_owned()));
                    say(said, "{");
                    done += at + len;
                    self.at = At::Key;
                }
                At::Key => match find(rest, &[&tags.key_open, end]) {
                    Found::At { at, marker: 0 } => {
                        done += at + tags.key_open.len();
                        self.at = At::KeyName;
                    }
                    Found::At { at, .. } => {
                        say(said, "}");
                        said.push(Said::End);
                        // What closes the call is its reader's to take.
                        return Read::Done(done + at + tags.end.len());
                    }
                    // What stands between two arguments says nothing.
                    Found::MaybeAt(at) => return Read::Wait(done + at),
                    Found::No => return Read::Wait(text.len()),
                },
                At::KeyName => match find(head(rest, MAX_NAME_BYTES), &[&tags.key_end]) {
                    Found::At { at, .. } => {
                        let key = rest[..at].trim_matches(is_space).to_owned();
                        done += at + tags.key_end.len();
                        self.at = At::BeforeValue(key);
                    }
                    // Not a name any more: the call goes on after it.
                    _ if rest.len() > MAX_NAME_BYTES => self.at = At::Key,
                    _ => return Read::Wait(done),
                },
                At::BeforeValue(key) => {
                    if !tags.value_open.is_empty() {
                        let space = leading_space(rest);
                        match begins(&rest[space..], &tags.value_open) {
                            _ if space > MAX_SPACE_BYTES => {}
                            Match::Maybe if !is_last => return Read::Wait(done),
                            Match::Yes => done += space + tags.value_open.len(),
                            Match::Maybe | Match::No => {}
                        }
                    }
                    let kind = kind(self.tool.map(|i| &tools[i]), key);
                    let comma = if self.n_arguments > 0 { ", " } else { "" };
                    self.n_arguments += 1;
                    let key = Value::from(key.as_str());
                    say(said, &format!("{comma}{key}: "));
                    if kind == Kind::Text {
                        say(said, "\"");
                    }
                    self.at = At::Value { kind, is_fresh: true, quote: "", text: String::new() };
                }
                At::Value { kind, is_fresh, quote, text: so_far } => {
                    if *is_fresh {
                        if let Some((open, close)) = tags.quotes {
                            match begins(rest, open) {
                                Match::Maybe if !is_last => return Read::Wait(done),
                                Match::Yes => {
                                    done += open.len();
                                    *quote = close;
                                }
                                Match::Maybe | Match::No => {}
                            }
                            *is_fresh = false;
                            continue;
                        }
                        match begins(rest, tags.padding) {
                            Match::Maybe if !is_last => return Read::Wait(done),
                            Match::Yes => done += tags.padding.len(),
                            Match::Maybe | Match::No => {}
                        }
                        *is_fresh = false;
                        continue;
                    }
                    let (n, state) = inside(rest, (tags, *quote), end, is_last);
                    if *kind == Kind::Text {
                        say_escaped(said, &rest[..n]);
                    } else {
                        so_far.push_str(&rest[..n]);
                        if so_far.len() > MAX_VALUE_BYTES {
                            say(said, "\"");
                            say_escaped(said, so_far);
                            *kind = Kind::Text;
                        }
                    }
                    match state {
                        Inside::Ends(n_more) => {
                            match kind {
                                Kind::Text => say(said, "\""),
                                kind => say(said, &value(so_far, *kind)),
                            }
                            done += n + n_more;
                            self.at = At::Key;
                        }
                        Inside::GoesOn => {
                            if is_last {
                                // As far as it came.
                                match kind {
                                    Kind::Text => {}
                                    _ => say(said, std::mem::take(so_far).trim()),
                                }
                            }
                            return Read::Wait(done + n);
                        }
                    }
                }
            }
        }
    }
}

/// Where a name ends, and the bytes of what ends it that are no part of what follows.
fn name_end(text: &str, tags: &Tags<String>, end: &str) -> Option<(usize, usize)> {
    let found = match tags.name_end.as_str() {
        "" => find(text, &[&tags.key_open, end]),
        name_end => find(text, &[name_end]),
    };
    match found {
        Found::At { at, .. } => Some((at, tags.name_end.len())),
        Found::MaybeAt(_) | Found::No => None,
    }
}

/// Whether a value goes on.
enum Inside {
    GoesOn,
    /// With so many bytes that are no part of it.
    Ends(usize),
}

/// How many bytes of `text` are surely a value's, and whether it ends then. `quote` stands before the tag that ends it.
fn inside(text: &str, (tags, quote): (&Tags<String>, &str), end: &str, is_last: bool) -> (usize, Inside) {
    let close = format!("{quote}{}", tags.value_end);
    let padding = if quote.is_empty() { tags.padding } else { "" };
    let mut from = 0;
    loop {
        let at = match find(&text[from..], &[&close]) {
            Found::At { at, .. } => from + at,
            found => {
                let sure = match found {
                    Found::MaybeAt(at) if !is_last => from + at,
                    _ => text.len(),
                };
                // What may be the padding before the tag.
                let n = if is_last { sure } else { without_padding(text, sure, padding) };
                return (n, Inside::GoesOn);
            }
        };
        let after = &text[at + close.len()..];
        let space = leading_space(after);
        let next = &after[space..];
        let follows = [tags.key_open.as_str(), end].map(|marker| begins(next, marker));
        if follows.contains(&Match::Yes) || space > MAX_SPACE_BYTES || (is_last && next.is_empty()) {
            let n = without_padding(text, at, padding);
            return (n, Inside::Ends(at - n + close.len()));
        }
        if follows.contains(&Match::Maybe) && !is_last {
            return (without_padding(text, at, padding), Inside::GoesOn);
        }
        from = at + close.len();
    }
}

/// The end of `text[..end]` without the padding that it ends with.
fn without_padding(text: &str, end: usize, padding: &str) -> usize {
    match text[..end].strip_suffix(padding) {
        Some(before) => before.len(),
        None => end,
    }
}
