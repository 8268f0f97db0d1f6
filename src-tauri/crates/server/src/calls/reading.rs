//! How an answer is read: from the text that the model writes to the parts that it is made of.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::{Markers, TokenLogprob};
use text::{AnswerForm, AnswerReader, Begins, Spoken, TextModel, TokenId, Tool};
use uuid::Uuid;

use super::answer::{CallPart, Finish, Part, ScoredToken, Text, Token};
use super::tools::Parallel;

/// What is known of how an answer is to be read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) form: Arc<AnswerForm>,
    pub(crate) begins: Begins,
    /// The functions that it may call.
    pub(crate) tools: Vec<Tool>,
    pub(crate) parallel: Parallel,
}

/// Makes parts of what a model writes: here, and nowhere else, it is told what is text and what is more than that.
pub(crate) struct Parts {
    text: Arc<TextModel>,
    read: Option<Read>,
}

/// An answer that is read.
struct Read {
    reader: AnswerReader,
    parallel: Parallel,
    /// The call under way.
    call: Option<CallPart>,
    n_calls: usize,
    n_thinking: usize,
    /// Bytes that the model wrote so far.
    n_bytes: usize,
    /// What was sampled, by where in those bytes it begins, as long as it is not known what it is part of.
    scored: VecDeque<(usize, ScoredToken)>,
}

impl Reading {
    /// Whether the engine is to show the markers of an answer that is read like this.
    pub(crate) fn markers(reading: Option<&Reading>) -> Markers {
        if reading.is_some() { Markers::Shown } else { Markers::Hidden }
    }
}

impl Parts {
    /// Those of an answer of the model; all is text unless it is read.
    pub(crate) fn new(text: Arc<TextModel>, reading: Option<Reading>) -> Parts {
        let read = reading.map(|Reading { form, begins, tools, parallel }| Read {
            reader: AnswerReader::new(form, tools, begins),
            parallel,
            call: None,
            n_calls: 0,
            n_thinking: 0,
            n_bytes: 0,
            scored: VecDeque::new(),
        });
        Parts { text, read }
    }

    /// The parts that `text` brings, the next piece of what the model writes, in which `tokens` were sampled.
    pub(crate) fn take(
        &mut self,
        text: String,
        tokens: &[TokenId],
        logprobs: Vec<TokenLogprob>,
    ) -> Vec<Part> {
        let model = Arc::clone(&self.text);
        let scored = logprobs.into_iter().map(|sampled| ScoredToken {
            token: Token::new(&model, sampled.token),
            logprob: sampled.logprob,
            top: sampled.top.iter().map(|(id, logprob)| (Token::new(&model, *id), *logprob)).collect(),
        });
        match &mut self.read {
            None => vec![Part::Text(Text { text, scored: scored.collect() })],
            Some(read) => read.take(&text, tokens.len(), scored),
        }
    }

    /// What was held back, now that the answer has ended.
    pub(crate) fn rest(&mut self) -> Vec<Part> {
        let Some(read) = &mut self.read else { return Vec::new() };
        let spoken = read.reader.finish();
        read.parts(spoken)
    }

    /// Why the answer ended, as far as its parts tell more than the engine.
    pub(crate) fn finish(&self, finish: Finish) -> Finish {
        let has_calls = self.read.as_ref().is_some_and(|read| read.n_calls > 0);
        if has_calls && finish == Finish::EndOfTurn { Finish::ToolCalls } else { finish }
    }

    /// How many tokens the model thought in.
    pub(crate) fn n_thinking(&self) -> usize {
        self.read.as_ref().map_or(0, |read| read.n_thinking)
    }
}

impl Read {
    fn take(&mut self, text: &str, n_tokens: usize, scored: impl Iterator<Item = ScoredToken>) -> Vec<Part> {
        let mut at = self.n_bytes;
        self.n_bytes += text.len();
        for token in scored {
            let n_bytes = token.token.bytes.len();
            self.scored.push_back((at, token));
            at = (at + n_bytes).min(self.n_bytes);
        }
        let was_thinking = self.reader.is_thinking();
        let spoken = self.reader.push(text);
        if was_thinking || self.reader.is_thinking() {
            self.n_thinking += n_tokens;
        }
        self.parts(spoken)
    }

    fn parts(&mut self, spoken: Vec<Spoken>) -> Vec<Part> {
        spoken.into_iter().filter_map(|spoken| self.part(spoken)).collect()
    }

    fn part(&mut self, spoken: Spoken) -> Option<Part> {
        match spoken {
            Spoken::Text { text, at } => {
                let scored = self.scored_within(at, at + text.len());
                Some(Part::Text(Text { text, scored }))
            }
            Spoken::Thoughts(text) => Some(Part::Thinking(text)),
            Spoken::Call(name) => {
                let index = self.n_calls;
                let is_one_too_many = self.parallel == Parallel::One && index > 0;
                self.call = None;
                if is_one_too_many {
                    return None;
                }
                self.n_calls += 1;
                let id = Uuid::new_v4().simple().to_string();
                let call = CallPart { index, id, name, arguments: String::new() };
                self.call = Some(call.clone());
                Some(Part::ToolCall(call))
            }
            Spoken::Arguments(arguments) => {
                let call = self.call.as_ref()?;
                Some(Part::ToolCall(CallPart { arguments, ..call.clone() }))
            }
        }
    }

    /// What was sampled for the bytes from `start` to `end`; what was for those before them is part of something else.
    fn scored_within(&mut self, start: usize, end: usize) -> Vec<ScoredToken> {
        let n = self.scored.iter().take_while(|(at, _)| *at < end).count();
        self.scored.drain(..n).filter(|(at, _)| *at >= start).map(|(_, token)| token).collect()
    }
}
