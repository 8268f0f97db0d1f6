//! From what a model writes to what it says: text, thoughts and calls, piece by piece.
//!
//! What is read does not depend on how the text is cut on its way. Nothing of a call is said before its name is known
//! to be one of the tools: until then it is text that waits, and if it turns out to be no call it is text. After that
//! it stays a call, however it goes on. White space between text and calls says nothing; within arguments, texts and
//! thoughts it is the model's. Reading takes linear time, and holds back no more than the bounds of its parts say.

mod found;
mod harmony;
mod json_calls;
mod json_value;
mod literal_calls;
mod named_call;
mod said;
mod state;
mod steps;
mod tagged_call;

use std::sync::Arc;

pub(crate) use self::found::is_space;
use self::harmony::{HarmonyReader, Message};
use self::state::{At, Step};
pub(crate) use self::steps::MAX_HELD_SPACE;
use crate::Tool;
use crate::answer_form::{AnswerForm, Begins, MARK};

/// Bytes that turned out to be no call and are looked through once more for one.
const MAX_READ_AGAIN: usize = 1 << 10;

/// A piece of what a model says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    /// Text, which begins at this byte of what the model wrote.
    Text {
        /// The text.
        text: String,
        /// Where it begins; what follows it in the same piece follows it there.
        at: usize,
    },
    /// Thoughts.
    Thoughts(String),
    /// A call of this function begins.
    Call(String),
    /// More of the call's arguments, as JSON.
    Arguments(String),
}

/// Where a part begins or ends, in bytes of what the model wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Border {
    /// Thoughts or a call, with their opening marker.
    Begin(usize),
    /// A message of any kind, with its header.
    Message(usize),
    /// The last part, with its closing marker.
    End(usize),
    /// The text that is said next stands here.
    Text { start: usize, end: usize },
}

/// Reads one answer.
#[derive(Debug)]
pub struct AnswerReader {
    form: Arc<AnswerForm>,
    tools: Arc<[Tool]>,
    at: At,
    /// What is not read yet.
    rest: String,
    /// How many bytes were read before that.
    n_read: usize,
    /// What may be a call, and where it begins; it is text if it is none.
    held: String,
    /// Bytes of it that are text for good if it is no call: its first marker.
    n_marker: usize,
    /// Whether a call's name was said and its end not.
    is_begun: bool,
    /// What the message under way is, where there are messages.
    message: Message,
    spoken: Vec<Spoken>,
    /// Pieces that were said and taken.
    n_taken: usize,
    /// Borders, each with how many pieces were said before it; none unless they are asked for.
    borders: Option<Vec<(usize, Border)>>,
}

impl AnswerReader {
    /// Reads an answer of this form that may call these tools and begins like this.
    pub fn new(form: Arc<AnswerForm>, tools: impl Into<Arc<[Tool]>>, begins: Begins) -> AnswerReader {
        let at = match begins {
            _ if form.calls.is_harmony() => At::Harmony(HarmonyReader::new(begins == Begins::Header)),
            Begins::Thoughts => At::Thoughts { is_fresh: true },
            Begins::AfterThoughts => At::AfterThoughts,
            Begins::Text | Begins::Header => At::Start,
        };
        AnswerReader {
            form,
            tools: tools.into(),
            at,
            rest: String::new(),
            n_read: 0,
            held: String::new(),
            n_marker: 0,
            is_begun: false,
            message: Message::Text,
            spoken: Vec::new(),
            n_taken: 0,
            borders: None,
        }
    }

    /// From now on, remember where parts begin and end.
    pub(crate) fn note_borders(&mut self) {
        self.borders = Some(Vec::new());
    }

    /// Where parts begin and end, each with how many pieces were said before that.
    pub(crate) fn borders(&self) -> &[(usize, Border)] {
        self.borders.as_deref().unwrap_or_default()
    }

    fn border(&mut self, border: Border) {
        let n_said = self.n_taken + self.spoken.len();
        if let Some(borders) = &mut self.borders {
            borders.push((n_said, border));
        }
    }

    fn take_spoken(&mut self) -> Vec<Spoken> {
        self.n_taken += self.spoken.len();
        std::mem::take(&mut self.spoken)
    }

    /// Whether what comes next is thoughts, as far as that is known.
    pub fn is_thinking(&self) -> bool {
        match &self.at {
            At::Thoughts { .. } => true,
            At::Harmony(harmony) => harmony.is_thinking(),
            _ => false,
        }
    }

    /// What the next piece of text adds.
    pub fn push(&mut self, text: &str) -> Vec<Spoken> {
        self.rest.push_str(text);
        self.read(false);
        self.take_spoken()
    }

    /// What was held back: nothing more comes.
    pub fn finish(&mut self) -> Vec<Spoken> {
        self.read(true);
        let rest = std::mem::take(&mut self.rest);
        let held = std::mem::take(&mut self.held);
        match &self.at {
            At::Thoughts { .. } => self.say_thoughts(&rest),
            At::Harmony(_) => {}
            // What might have been a call is none. What is left after one says nothing.
            At::BlockStart | At::Call(_) if self.is_begun => {}
            At::AfterThoughts | At::CallEnd | At::Between => {}
            _ => self.say_text(&(held.clone() + &rest), self.n_read - held.len()),
        }
        self.at = At::Between;
        self.take_spoken()
    }

    fn read(&mut self, is_last: bool) {
        let mut text = std::mem::take(&mut self.rest);
        let mut done = 0;
        // Each step reads something, or goes on to a state from which none leads back here without reading.
        loop {
            match self.step(&text[done..], is_last) {
                Step::Took(n) => {
                    done += n;
                    self.n_read += n;
                }
                Step::Wait => break,
                Step::Refuse(n) => {
                    done += n;
                    self.n_read += n;
                    let held = std::mem::take(&mut self.held);
                    let n_text = if held.len() > MAX_READ_AGAIN { held.len() } else { self.n_marker };
                    let again = &held[n_text..];
                    self.say_text(&held[..n_text], self.n_read - held.len());
                    self.n_read -= again.len();
                    if again.len() <= done {
                        done -= again.len();
                    } else {
                        text = format!("{again}{}", &text[done..]);
                        done = 0;
                    }
                    self.at = At::Text;
                }
            }
        }
        text.drain(..done);
        self.rest = text;
    }

    fn say_text(&mut self, text: &str, at: usize) {
        if !text.is_empty() {
            self.border(Border::Text { start: at, end: at + text.len() });
            // A client need not see what no client can write.
            self.spoken.push(Spoken::Text { text: text.replace(MARK, ""), at });
        }
    }

    fn say_thoughts(&mut self, text: &str) {
        if !text.is_empty() {
            self.spoken.push(Spoken::Thoughts(text.replace(MARK, "")));
        }
    }

    fn say_arguments(&mut self, text: &str) {
        if !text.is_empty() {
            self.spoken.push(Spoken::Arguments(text.replace(MARK, "")));
        }
    }
}
