//! An answer as the parts that it is made of, each with the place where it stands.
//!
//! A client sends back what an answer said, in words of its own: it is the same answer when its parts are equal as
//! values, and then what the model wrote can stand for what the client did. What stands between parts, white space
//! and markers around several calls, says nothing to anybody.

use std::ops::Range;
use std::sync::Arc;

use crate::Tool;
use crate::answer_form::{AnswerForm, Begins, MARK};
use crate::answer_reader::{AnswerReader, Border, Spoken};
use crate::canonical_json::canonical;

/// How an answer is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerReading {
    /// What the model's answers are made of.
    pub form: Arc<AnswerForm>,
    /// The functions that it may call.
    pub tools: Arc<[Tool]>,
    /// In what it begins.
    pub begins: Begins,
}

/// An answer's parts, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerParts {
    /// Neighbours of a kind are one, but for calls.
    pub parts: Vec<AnswerPart>,
    /// What stands after the last one, without white space.
    pub rest: String,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPart {
    /// What it says.
    pub value: PartValue,
    /// Where it stands, with its own markers, in bytes.
    pub span: Range<usize>,
    /// What stands before it that says nothing, without white space.
    pub glue: String,
    /// Whether it was begun by the prompt, which has its opening marker.
    pub is_begun: bool,
}

/// What a part says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartValue {
    /// Text.
    Text(String),
    /// Thoughts.
    Thoughts(String),
    /// A call of a function.
    Call {
        /// The function.
        name: String,
        /// JSON, as it was written.
        arguments: String,
    },
}

/// What stands for a part's value: equal for equal values.
pub type PartDigest = [u8; 32];

impl AnswerPart {
    /// What stands for its value. Text and thoughts are equal byte for byte, calls by name and by their arguments as
    /// JSON values; arguments that are no JSON, or have a key twice, by how they are written.
    pub fn digest(&self) -> PartDigest {
        let mut hasher = blake3::Hasher::new();
        match &self.value {
            PartValue::Text(text) => hasher.update(b"text\0").update(text.as_bytes()),
            PartValue::Thoughts(text) => {
                hasher.update(if self.is_begun { b"more\0" } else { b"hmmm\0" }).update(text.as_bytes())
            }
            PartValue::Call { name, arguments } => {
                hasher.update(b"call\0").update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
                // A call without arguments has none, however that is said.
                let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
                match canonical(arguments) {
                    Some(value) => hasher.update(b"json\0").update(&value),
                    None => hasher.update(b"raw\0").update(arguments.as_bytes()),
                }
            }
        };
        hasher.finalize().into()
    }
}

impl AnswerReading {
    /// The parts of a whole answer, in which markers that are control tokens have the mark before them. Takes linear
    /// time.
    pub fn parts(&self, answer: &str) -> AnswerParts {
        let mut reader = AnswerReader::new(Arc::clone(&self.form), Arc::clone(&self.tools), self.begins);
        reader.note_borders();
        let mut spoken = reader.push(answer);
        spoken.extend(reader.finish());
        let mut gathering = Gathering::default();
        if self.begins == Begins::Thoughts {
            gathering.begun = Some((0, Opened::ByPrompt));
        }
        let mut borders = reader.borders().iter().peekable();
        for (n, piece) in spoken.into_iter().enumerate() {
            while let Some((_, border)) = borders.next_if(|(n_before, _)| *n_before <= n) {
                gathering.border(*border);
            }
            gathering.piece(piece);
        }
        borders.for_each(|(_, border)| gathering.border(*border));
        gathering.finish(answer)
    }
}

/// Who wrote the marker that opens a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    ByPrompt,
    ByModel,
    /// A header that says what follows it.
    AsMessage,
}

/// Parts so far.
#[derive(Debug, Default)]
struct Gathering {
    parts: Vec<AnswerPart>,
    /// Where the next part begins, if it is known.
    begun: Option<(usize, Opened)>,
    /// Where the last part ends, if that is known.
    end: Option<usize>,
    /// Where the text that comes next stands.
    text: Range<usize>,
}

impl Gathering {
    fn border(&mut self, border: Border) {
        match border {
            Border::Begin(at) => self.begun = Some((at, Opened::ByModel)),
            Border::Message(at) => self.begun = Some((at, Opened::AsMessage)),
            Border::End(at) => {
                // Of a part that said nothing there is nothing to end.
                if self.begun.take().is_none()
                    && let Some(last) = self.parts.last_mut()
                {
                    last.span.end = at;
                    self.end = Some(at);
                }
            }
            Border::Text { start, end } => self.text = start..end,
        }
    }

    fn piece(&mut self, piece: Spoken) {
        match piece {
            Spoken::Text { text, .. } => {
                let begun = self.begun.take().filter(|(_, opened)| *opened == Opened::AsMessage);
                let span = begun.map_or(self.text.start, |(at, _)| at)..self.text.end;
                match self.parts.last_mut() {
                    Some(AnswerPart { value: PartValue::Text(before), span: whole, .. }) => {
                        before.push_str(&text);
                        whole.end = span.end;
                    }
                    _ => self.push(PartValue::Text(text), span, Opened::ByModel),
                }
                self.end = Some(self.text.end);
            }
            Spoken::Thoughts(text) => {
                let is_open = self.end.is_none() && self.begun.is_none();
                match self.parts.last_mut() {
                    Some(AnswerPart { value: PartValue::Thoughts(before), .. }) if is_open => {
                        before.push_str(&text);
                    }
                    _ => self.open(PartValue::Thoughts(text)),
                }
            }
            Spoken::Call(name) => self.open(PartValue::Call { name, arguments: String::new() }),
            Spoken::Arguments(text) => {
                if let Some(AnswerPart { value: PartValue::Call { arguments, .. }, .. }) =
                    self.parts.last_mut()
                {
                    arguments.push_str(&text);
                }
            }
        }
    }

    /// A part begins whose end is not known yet.
    fn open(&mut self, value: PartValue) {
        // Of calls in one list only the first has an opening marker: the others begin where the one before ends.
        let last_end = self.parts.last().map_or(0, |last| last.span.end);
        let (start, opened) = self.begun.take().unwrap_or((last_end, Opened::ByModel));
        self.push(value, start..usize::MAX, opened);
        self.end = None;
    }

    fn push(&mut self, value: PartValue, span: Range<usize>, opened: Opened) {
        // What was opened and not closed ends where the next one begins.
        if let Some(last) = self.parts.last_mut() {
            last.span.end = last.span.end.min(span.start);
        }
        let is_begun = opened == Opened::ByPrompt;
        self.parts.push(AnswerPart { value, span, glue: String::new(), is_begun });
    }

    fn finish(mut self, answer: &str) -> AnswerParts {
        let mut done = 0;
        for part in &mut self.parts {
            part.span.end = part.span.end.min(answer.len());
            part.glue = squeezed(answer.get(done..part.span.start).unwrap_or_default());
            done = part.span.end;
        }
        AnswerParts { rest: squeezed(answer.get(done..).unwrap_or_default()), parts: self.parts }
    }
}

/// What is left of a text without white space and marks.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != MARK).collect()
}
