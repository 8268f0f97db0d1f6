//! What a dialect is: how an API's calls are read, and how its answers and faults are written.
//!
//! It knows no engine, and what calls, answers and faults are knows no wire.

use axum::http::StatusCode;

use crate::calls::answer::{Answer, End, Head, Part, PromptTokens, Usage};
use crate::calls::call::Call;
use crate::calls::embed_answer::EmbedAnswer;
use crate::calls::embed_call::EmbedCall;
use crate::calls::fault::Fault;

/// What an API says when there is no answer. Every route carries one, so that whatever refuses a request on its way
/// there speaks as its client expects.
pub(crate) struct Dialect {
    /// Status and body of a fault, which happened to the request of this id.
    pub(crate) fault: fn(&Fault, &str) -> WrittenFault,
    /// The header that its clients look for a request's id in, besides the one that every response has.
    pub(crate) id_header: Option<&'static str>,
}

/// A fault as a response: its status, and its body of JSON.
#[derive(Debug)]
pub(crate) struct WrittenFault {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

/// Takes the body of a call apart, one function for each call of an API.
pub(crate) trait Parse: FnOnce(&[u8]) -> Result<Asked, Fault> + Send + 'static {}

impl<F: FnOnce(&[u8]) -> Result<Asked, Fault> + Send + 'static> Parse for F {}

/// A body that was understood.
pub(crate) struct Asked {
    pub(crate) call: Call,
    pub(crate) delivery: Delivery,
    /// Writes the answer.
    pub(crate) writer: Box<dyn Writer>,
}

/// How an answer is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// In one piece.
    Whole,
    /// In frames, as it comes.
    Streamed,
}

/// Writes one answer, in frames that are appended to what is to be sent, or whole. It knows no time and no connection.
pub(crate) trait Writer: Send {
    /// What the frames are, as a content type.
    fn media_type(&self) -> &'static str;

    /// What comes before anything else, of a prompt that is known now.
    fn open(&mut self, head: &Head, prompt: PromptTokens, out: &mut String);

    /// A part; nothing where it has nothing to show yet.
    fn part(&mut self, head: &Head, part: &Part, out: &mut String);

    /// What comes next is of this one of several answers, from 0; until it is called, of the first.
    fn turn_to(&mut self, _choice: usize) {}

    /// The answer that it is at is complete, and others are not.
    fn end_one(&mut self, _head: &Head, _end: &End, _out: &mut String) {}

    /// The answer is complete, and with it all of them.
    fn end(&mut self, head: &Head, end: &End, out: &mut String);

    /// There is no more of it, and why; it must not look complete.
    fn break_off(&mut self, head: &Head, fault: &Fault, out: &mut String);

    /// The prompt is being read: `done` of its tokens, of `total`.
    fn prefill(&mut self, head: &Head, done: usize, total: usize, out: &mut String);

    /// Nothing has happened, and the connection is there.
    fn alive(&mut self, head: &Head, out: &mut String);

    /// All of it, as one body of JSON.
    fn whole(&mut self, head: &Head, answer: Answer) -> String;

    /// All of several, which took so much. An API that has no way to ask for more than one has one.
    fn whole_of(&mut self, head: &Head, mut answers: Vec<Answer>, _usage: Usage) -> String {
        self.whole(head, answers.swap_remove(0))
    }
}

/// Takes the body of a call for vectors apart, one function for each such call of an API.
pub(crate) type ParseEmbed = fn(&[u8]) -> Result<AskedEmbed, Fault>;

/// The body of a call for vectors that was understood.
pub(crate) struct AskedEmbed {
    pub(crate) call: EmbedCall,
    /// Writes the answer.
    pub(crate) writer: Box<dyn EmbedWriter>,
}

/// Writes one answer of vectors, as one body of JSON that may be long: in pieces that are appended to what is to be sent.
pub(crate) trait EmbedWriter: Send {
    /// What comes before the vectors.
    fn open(&mut self, answer: &EmbedAnswer, out: &mut String);

    /// The next vector, that of the text with this index.
    fn vector(&mut self, idx: usize, vector: Vec<f32>, out: &mut String);

    /// What comes after them.
    fn close(&mut self, answer: &EmbedAnswer, out: &mut String);
}
