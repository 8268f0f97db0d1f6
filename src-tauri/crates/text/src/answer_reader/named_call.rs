//! A call as a name, a marker and arguments as JSON.

use super::found::{Found, find, head, is_space, leading_space};
use super::json_calls::JsonCalls;
use super::json_value::{JsonScanner, Scan};
use super::said::{MAX_NAME_BYTES, Read, Said, is_offered, say};
use crate::Tool;

/// What stands around a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AroundName<'a> {
    pub(crate) before: &'a str,
    pub(crate) cut: Option<char>,
    pub(crate) cut_at: &'a str,
    pub(crate) end: &'a str,
}

/// Reads one call; or calls as JSON, where they stand in its place.
#[derive(Debug)]
pub(crate) struct NamedCall {
    at: At,
}

#[derive(Debug)]
enum At {
    Start,
    Name,
    BeforeArguments,
    Arguments(JsonScanner),
    Json(JsonCalls),
}

impl NamedCall {
    pub(crate) fn new() -> NamedCall {
        NamedCall { at: At::Start }
    }

    /// Reads on.
    pub(crate) fn read(
        &mut self,
        text: &str,
        around: AroundName<'_>,
        tools: &[Tool],
        said: &mut Vec<Said>,
    ) -> Read {
        let mut done = 0;
        loop {
            let rest = &text[done..];
            match &mut self.at {
                At::Start => {
                    done += leading_space(rest);
                    match text[done..].chars().next() {
                        None => return Read::Wait(done),
                        Some('[' | '{') => self.at = At::Json(JsonCalls::new("name", "arguments", false)),
                        Some(_) => self.at = At::Name,
                    }
                }
                At::Name => {
                    let end = match find(head(rest, MAX_NAME_BYTES), &[around.end]) {
                        Found::At { at, .. } => at,
                        _ if rest.len() > MAX_NAME_BYTES => return Read::Refuse(done),
                        _ => return Read::Wait(done),
                    };
                    match name(&rest[..end], around) {
                        Some(name) if is_offered(tools, name) => said.push(Said::Name(name.to_owned())),
                        _ => return Read::Refuse(done),
                    }
                    done += end + around.end.len();
                    self.at = At::BeforeArguments;
                }
                At::BeforeArguments => {
                    done += leading_space(rest);
                    match text[done..].chars().next() {
                        None => return Read::Wait(done),
                        Some('{' | '[' | '"') => self.at = At::Arguments(JsonScanner::default()),
                        Some(_) => {
                            say(said, "{}");
                            said.push(Said::End);
                            return Read::Done(done);
                        }
                    }
                }
                At::Arguments(scanner) => {
                    for (at, c) in rest.char_indices() {
                        match scanner.take(c) {
                            Scan::Inside => {}
                            Scan::Last | Scan::Beyond => {
                                say(said, &rest[..at + c.len_utf8()]);
                                said.push(Said::End);
                                return Read::Done(done + at + c.len_utf8());
                            }
                        }
                    }
                    say(said, rest);
                    return Read::Wait(text.len());
                }
                At::Json(calls) => {
                    return match calls.read(rest, tools, said) {
                        Read::Took(n) => Read::Took(done + n),
                        Read::Wait(n) => Read::Wait(done + n),
                        Read::Done(n) => Read::Done(done + n),
                        Read::Refuse(n) => Read::Refuse(done + n),
                    };
                }
            }
        }
    }
}

fn name<'a>(text: &'a str, around: AroundName<'_>) -> Option<&'a str> {
    let text = match around.cut_at {
        "" => text,
        cut_at => text.split(cut_at).next()?,
    };
    let text = text.trim_matches(is_space);
    let text = text.strip_prefix(around.before).unwrap_or(text);
    let text = match around.cut {
        Some(cut) => text.split(cut).next()?,
        None => text,
    };
    (!text.is_empty()).then_some(text)
}
