//! The steps of a reader: each reads a piece of what is there, or goes on to another state.

use std::sync::Arc;

use super::found::{Found, Match, begins, find, is_space, leading_space};
use super::harmony::{Message, Piece};
use super::json_calls::JsonCalls;
use super::literal_calls::{LiteralCalls, Style};
use super::named_call::{AroundName, NamedCall};
use super::said::{Read, Said};
use super::state::{At, CallReader, Step};
use super::tagged_call::TaggedCall;
use super::{AnswerReader, Border, Spoken};
use crate::answer_form::call_form::{Bare, Body};

/// White space that waits for what follows it: if that is a call, it says nothing. Where more stands before a marker,
/// that is none.
pub(crate) const MAX_HELD_SPACE: usize = 64;

impl AnswerReader {
    /// Reads on.
    pub(super) fn step(&mut self, text: &str, is_last: bool) -> Step {
        match &mut self.at {
            At::Start | At::AfterThoughts => self.start(text, is_last),
            At::Thoughts { is_fresh } => {
                if *is_fresh {
                    let space = leading_space(text);
                    *is_fresh = space == text.len();
                    return Step::took(space, !*is_fresh);
                }
                self.thoughts(text, is_last)
            }
            At::Text => self.text(text, is_last),
            At::BlockStart => self.block_start(text),
            At::Call(_) => self.call(text, is_last),
            At::CallEnd => self.call_end(text, is_last),
            At::Between => self.between(text, is_last),
            At::Harmony(_) => self.harmony(text, is_last),
        }
    }

    /// Before anything but white space.
    fn start(&mut self, text: &str, is_last: bool) -> Step {
        let space = leading_space(text);
        let rest = &text[space..];
        if rest.is_empty() && space <= MAX_HELD_SPACE {
            return Step::Wait;
        }
        if let Some(thoughts) = self.form.thoughts.as_ref().filter(|_| space <= MAX_HELD_SPACE) {
            match begins(rest, &thoughts.open) {
                Match::Yes => {
                    let n = space + thoughts.open.len();
                    self.border(Border::Begin(self.n_read + space));
                    self.at = At::Thoughts { is_fresh: true };
                    return Step::Took(n);
                }
                Match::Maybe if !is_last => return Step::Wait,
                Match::Maybe | Match::No => {}
            }
        }
        // After thoughts it says nothing; before anything else it is what the model begins with.
        let n = if matches!(self.at, At::AfterThoughts) { space.min(MAX_HELD_SPACE) } else { 0 };
        if self.may_be_bare(rest) && space <= MAX_HELD_SPACE {
            self.held.clear();
            self.border(Border::Begin(self.n_read + space));
            self.begin_call(&text[n..], space - n, 0);
            return Step::Took(space);
        }
        self.at = At::Text;
        Step::Took(n)
    }

    fn may_be_bare(&self, text: &str) -> bool {
        self.form.calls.bare == Bare::Yes && !self.tools.is_empty() && text.starts_with('{')
    }

    fn thoughts(&mut self, text: &str, is_last: bool) -> Step {
        let Some(thoughts) = &self.form.thoughts else {
            self.at = At::Text;
            return Step::Took(0);
        };
        match find(text, &[&thoughts.close]) {
            Found::At { at, .. } => {
                let n = at + thoughts.close.len();
                self.say_thoughts(&text[..without_space(text, at)]);
                self.border(Border::End(self.n_read + n));
                self.at = At::AfterThoughts;
                Step::Took(n)
            }
            _ if is_last => Step::Wait,
            Found::MaybeAt(at) => self.more_thoughts(text, at),
            Found::No => self.more_thoughts(text, text.len()),
        }
    }

    fn more_thoughts(&mut self, text: &str, sure: usize) -> Step {
        let n = without_space(text, sure);
        self.say_thoughts(&text[..n]);
        Step::some(n)
    }

    fn text(&mut self, text: &str, is_last: bool) -> Step {
        let form = Arc::clone(&self.form);
        let calls = &form.calls;
        let reopened = form.thoughts.as_ref().filter(|_| form.reopens_thoughts());
        let mut markers: Vec<&str> = Vec::with_capacity(4 + form.silent.len());
        markers.push(reopened.map_or("", |thoughts| &thoughts.open));
        let has_calls = !self.tools.is_empty();
        markers.push(if has_calls { &calls.block_open } else { "" });
        markers.push(if has_calls { &calls.call_open } else { "" });
        markers.extend(form.silent.iter().map(String::as_str));
        match find(text, &markers) {
            Found::At { at, marker } => {
                let n = at + markers[marker].len();
                let says_nothing = marker < 3;
                let end = if says_nothing { without_space(text, at) } else { at };
                self.say_text(&text[..end], self.n_read);
                if marker == 0 || marker == 2 {
                    self.border(Border::Begin(self.n_read + at));
                }
                match marker {
                    0 => self.at = At::Thoughts { is_fresh: true },
                    1 => {
                        text[end..n].clone_into(&mut self.held);
                        self.n_marker = self.held.len();
                        self.at = At::BlockStart;
                    }
                    2 => {
                        self.held.clear();
                        self.begin_call(&text[end..], n - end, n - end);
                    }
                    _ => {}
                }
                Step::Took(n)
            }
            Found::MaybeAt(at) if !is_last => self.more_text(text, at, has_calls),
            _ if is_last => self.more_text(text, text.len(), false),
            _ => self.more_text(text, text.len(), has_calls),
        }
    }

    fn more_text(&mut self, text: &str, sure: usize, holds_space: bool) -> Step {
        let n = if holds_space { without_space(text, sure) } else { sure };
        self.say_text(&text[..n], self.n_read);
        Step::some(n)
    }

    /// A call may begin with the first `n` bytes of `text`; if it is none, `n_marker` bytes are text for good.
    fn begin_call(&mut self, text: &str, n: usize, n_marker: usize) -> Step {
        if self.held.is_empty() {
            self.n_marker = n_marker;
        }
        self.held.push_str(&text[..n]);
        let calls = &self.form.calls;
        self.at = At::Call(match &calls.body {
            Body::Json { name, arguments } => {
                let is_bare = calls.bare == Bare::Yes && n_marker == 0;
                CallReader::Json(JsonCalls::new(name, arguments, is_bare))
            }
            Body::Named { .. } => CallReader::Named(NamedCall::new()),
            Body::Tagged(_) => CallReader::Tagged(TaggedCall::new()),
            Body::Python | Body::Braced { .. } | Body::Harmony(_) => CallReader::Literal(LiteralCalls::new()),
        });
        Step::Took(n)
    }

    fn block_start(&mut self, text: &str) -> Step {
        let space = leading_space(text);
        let form = Arc::clone(&self.form);
        match begins(&text[space..], &form.calls.call_open) {
            Match::Yes | Match::Maybe if space > MAX_HELD_SPACE => Step::Refuse(0),
            Match::Yes => {
                self.border(Border::Begin(self.n_read + space));
                self.begin_call(text, space + form.calls.call_open.len(), 0)
            }
            Match::Maybe => Step::Wait,
            Match::No => Step::Refuse(0),
        }
    }

    fn call(&mut self, text: &str, is_last: bool) -> Step {
        let mut said = Vec::new();
        let form = Arc::clone(&self.form);
        let calls = &form.calls;
        let At::Call(reader) = &mut self.at else { return Step::Wait };
        let read = match (reader, &calls.body) {
            (CallReader::Json(reader), _) => reader.read(text, &self.tools, &mut said),
            (CallReader::Named(reader), Body::Named { before, cut, cut_at, name_end }) => {
                let around = AroundName { before, cut: *cut, cut_at, end: name_end };
                reader.read(text, around, &self.tools, &mut said)
            }
            (CallReader::Tagged(reader), Body::Tagged(tags)) => {
                let close = if calls.call_close.is_empty() { &calls.block_close } else { &calls.call_close };
                reader.read(text, (tags, close), &self.tools, is_last, &mut said)
            }
            (CallReader::Literal(reader), Body::Python) => {
                reader.read(text, Style::Python, &self.tools, is_last, &mut said)
            }
            (CallReader::Literal(reader), Body::Braced { quote }) => {
                reader.read(text, Style::Braced(quote), &self.tools, is_last, &mut said)
            }
            // A reader is made for the body that the form has.
            _ => Read::Refuse(0),
        };
        let (Read::Took(n) | Read::Wait(n) | Read::Done(n) | Read::Refuse(n)) = read;
        let has_said = !said.is_empty();
        for said in said {
            match said {
                Said::Name(name) => {
                    self.is_begun = true;
                    self.spoken.push(Spoken::Call(name));
                }
                Said::Arguments(arguments) => self.say_arguments(&arguments),
                Said::End => {
                    self.is_begun = false;
                    self.border(Border::End(self.n_read + n));
                }
            }
        }
        if has_said || self.is_begun {
            self.held.clear();
            self.n_marker = 0;
        } else {
            self.held.push_str(&text[..n]);
        }
        match read {
            Read::Done(n) => {
                self.held.clear();
                self.at = At::CallEnd;
                Step::Took(n)
            }
            // What comes then is no part of the call, and the call is one all the same.
            Read::Refuse(n) if self.is_begun => {
                self.is_begun = false;
                self.border(Border::End(self.n_read + n));
                self.at = At::CallEnd;
                Step::Took(n)
            }
            Read::Refuse(n) => Step::Refuse(n),
            Read::Took(n) => Step::Took(n),
            Read::Wait(n) => Step::some(n),
        }
    }

    fn call_end(&mut self, text: &str, is_last: bool) -> Step {
        let close = &self.form.calls.call_close;
        let space = leading_space(text);
        let state = if close.is_empty() { Match::No } else { begins(&text[space..], close) };
        let n = match state {
            _ if space > MAX_HELD_SPACE => 0,
            Match::Yes => space + close.len(),
            Match::Maybe if !is_last => return Step::Wait,
            Match::Maybe | Match::No => 0,
        };
        if n > 0 {
            self.border(Border::End(self.n_read + n));
        }
        self.at = At::Between;
        Step::Took(n)
    }

    fn between(&mut self, text: &str, is_last: bool) -> Step {
        let space = leading_space(text);
        let rest = &text[space..];
        let Some(first) = rest.chars().next() else { return Step::some(space) };
        let form = Arc::clone(&self.form);
        let calls = &form.calls;
        let markers = [&calls.block_close, &calls.block_open, &calls.call_open];
        let found = markers.map(|marker| if marker.is_empty() { Match::No } else { begins(rest, marker) });
        match found {
            [Match::Yes, _, _] => return Step::Took(space + calls.block_close.len()),
            [_, Match::Yes, _] => {
                self.held.clone_from(&calls.block_open);
                self.n_marker = self.held.len();
                self.at = At::BlockStart;
                return Step::Took(space + calls.block_open.len());
            }
            [_, _, Match::Yes] => {
                self.held.clear();
                let n = calls.call_open.len();
                self.border(Border::Begin(self.n_read + space));
                self.begin_call(rest, n, n);
                return Step::Took(space + n);
            }
            _ if found.contains(&Match::Maybe) && !is_last => return Step::Wait,
            _ => {}
        }
        if calls.bare == Bare::Yes && first == ';' {
            return Step::Took(space + 1);
        }
        if self.may_be_bare(rest) {
            self.held.clear();
            self.border(Border::Begin(self.n_read + space));
            self.begin_call(rest, 0, 0);
            return Step::Took(space);
        }
        self.at = At::Text;
        Step::Took(space)
    }

    fn harmony(&mut self, text: &str, is_last: bool) -> Step {
        let form = Arc::clone(&self.form);
        let (At::Harmony(reader), Body::Harmony(channels)) = (&mut self.at, &form.calls.body) else {
            return Step::Wait;
        };
        let Some((n, piece)) = reader.read(text, channels, &self.tools, is_last) else { return Step::Wait };
        match piece {
            Some(Piece::Begins(message)) => {
                self.message = message;
                self.border(Border::Message(self.n_read));
                if let Message::Call(tool) = message {
                    self.spoken.push(Spoken::Call(self.tools[tool].name.clone()));
                }
            }
            Some(Piece::More(more)) => match self.message {
                Message::Text => self.say_text(more, self.n_read),
                Message::Thoughts => self.say_thoughts(more),
                Message::Call(_) => self.say_arguments(more),
            },
            Some(Piece::Ends) => self.border(Border::End(self.n_read)),
            None => {}
        }
        Step::Took(n)
    }
}

/// The end of `text[..end]` without the white space that it ends with, as far as that waits for what follows.
fn without_space(text: &str, end: usize) -> usize {
    let space = end - text[..end].trim_end_matches(is_space).len();
    end - space.min(MAX_HELD_SPACE)
}
