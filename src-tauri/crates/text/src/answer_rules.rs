//! What a chat's answer must be, beside text.

use std::sync::Arc;

use crate::answer_form::{AnswerForm, Begins};
use crate::output_format::OutputFormat;
use crate::tool::Tool;

/// What a chat's answer must be. Thoughts before it are free but for their length, where the form has some.
#[derive(Debug, Clone)]
pub struct AnswerRules {
    /// How the answer is written.
    pub form: Arc<AnswerForm>,
    /// In what it begins.
    pub begins: Begins,
    /// The functions that it may call.
    pub tools: Vec<Tool>,
    /// Whether it must call one.
    pub calls: Calls,
    /// How many calls it may have.
    pub most: Most,
    /// What it must be where it calls nothing.
    pub format: Option<OutputFormat>,
    /// How many tokens its thoughts may have, with those that end them.
    pub most_thoughts: Option<usize>,
}

/// Whether an answer must call a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// It may.
    May,
    /// It must, and says nothing else.
    Must,
}

/// How many calls an answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Most {
    /// As many as it likes.
    Any,
    /// One.
    One,
}

impl AnswerRules {
    /// Whether there is anything to hold what an answer says to.
    pub(crate) fn hold_words(&self) -> bool {
        let may_call = !self.tools.is_empty();
        let holds_calls = self.calls == Calls::Must || self.most == Most::One;
        self.format.is_some() || may_call && (holds_calls || self.tools.iter().any(|tool| tool.strict))
    }

    /// Whether there is anything to hold an answer to.
    pub(crate) fn hold_something(&self) -> bool {
        self.hold_words() || self.most_thoughts.is_some() && self.form.thinks()
    }
}
