//! An answer in its parts, whichever API they are written for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::{Difference, DifferenceReason, FinishReason, ModelCard, PromptPlace};
use text::{TextModel, TokenId};
use uuid::Uuid;

/// What is known of an answer before its first part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Letters and digits that no other answer has.
    pub(crate) id: String,
    /// When it began, in seconds since 1970.
    pub(crate) created: u64,
    /// The id of the model that answers.
    pub(crate) model: String,
    /// What stands for the model's weights.
    pub(crate) fingerprint: [u8; 32],
}

impl Head {
    /// That of a new answer.
    pub(crate) fn new(card: &ModelCard) -> Head {
        Head {
            id: Uuid::new_v4().simple().to_string(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            model: card.name.clone(),
            fingerprint: card.fingerprint,
        }
    }
}

/// The tokens of a prompt that the engine has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PromptTokens {
    pub(crate) n_prompt: usize,
    /// Of those, the ones that need not be computed anew.
    pub(crate) n_reused: usize,
    /// Why that is not more, where it could have been.
    pub(crate) missed: Option<Missed>,
}

/// Why what was there of an earlier prompt could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) why: MissReason,
    /// Tokens that would have been reused else.
    pub(crate) n_tokens: usize,
}

/// What the earlier prompt has another of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissReason {
    System,
    Tools,
    Messages,
    /// Something that is not known, or nothing: what was there is gone.
    Unknown,
}

impl Missed {
    /// What a difference from an earlier prompt comes to; none where nothing was missed.
    pub(crate) fn of(difference: &Difference) -> Option<Missed> {
        let why = match (difference.why, &difference.place) {
            (DifferenceReason::GoesOn, _) => return None,
            (DifferenceReason::Changed, Some(PromptPlace::System)) => MissReason::System,
            (DifferenceReason::Changed, Some(PromptPlace::Tools)) => MissReason::Tools,
            (DifferenceReason::Changed, Some(PromptPlace::Message { .. })) => MissReason::Messages,
            (
                DifferenceReason::Changed
                | DifferenceReason::New
                | DifferenceReason::NotKept
                | DifferenceReason::NoCheckpoint,
                _,
            ) => MissReason::Unknown,
        };
        Some(Missed { why, n_tokens: difference.n_missed })
    }
}

/// A part of an answer, of one kind. Parts follow each other, and neighbours of a kind are one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    /// What the model says to whoever asked.
    Text(Text),
    /// What it thinks on the way to that.
    Thinking(String),
    /// More of a call of a function.
    ToolCall(CallPart),
}

/// More of a call of a function. All parts of a call have its id and name, and the first one may have no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallPart {
    /// Which of the answer's calls, from 0.
    pub(crate) index: usize,
    /// Letters and digits that no other call has.
    pub(crate) id: String,
    /// One of the functions' that were offered.
    pub(crate) name: String,
    /// JSON as the model writes it: more of it, maybe none. All of a call's are one document, unless it was cut.
    pub(crate) arguments: String,
}

/// Text, and what was sampled for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Text {
    pub(crate) text: String,
    /// Empty, unless the call asks for log-probabilities.
    pub(crate) scored: Vec<ScoredToken>,
}

impl Text {
    /// All that is text of some parts.
    pub(crate) fn of(parts: Vec<Part>) -> Text {
        parts.into_iter().fold(Text::default(), |mut all, part| {
            if let Part::Text(text) = part {
                all.join(text);
            }
            all
        })
    }

    /// Go on with `more`.
    pub(crate) fn join(&mut self, more: Text) {
        self.text.push_str(&more.text);
        self.scored.extend(more.scored);
    }
}

/// A sampled token, how likely it was, and its best rivals with theirs, the best first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScoredToken {
    pub(crate) token: Token,
    pub(crate) logprob: f32,
    pub(crate) top: Vec<(Token, f32)>,
}

/// A token, as far as it can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: TokenId,
    /// Maybe a part of a character only.
    pub(crate) bytes: Vec<u8>,
    /// The name of one that steers the model and is no part of an answer's text.
    pub(crate) control: Option<String>,
}

impl Token {
    /// That of the model's vocabulary.
    pub(crate) fn new(text: &TextModel, id: TokenId) -> Token {
        let control = text.control_text(id).map(str::to_owned);
        Token { id, bytes: text.token_bytes(id).to_vec(), control }
    }
}

/// How an answer ended, and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
    pub(crate) times: Times,
}

/// What a call took of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// From receipt until the engine took it.
    pub(crate) queued: Duration,
    /// From then to the first token of the answer, or to its end where it has none.
    pub(crate) reading: Duration,
    /// From the first token to the last.
    pub(crate) writing: Duration,
}

impl From<&engine::Usage> for Times {
    fn from(usage: &engine::Usage) -> Times {
        let first = usage.time_to_first_token.unwrap_or(usage.queued);
        Times { queued: usage.queued, reading: first.saturating_sub(usage.queued), writing: usage.decoding }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model was done.
    EndOfTurn,
    /// The model was done, and waits for what its calls give.
    ToolCalls,
    /// This one of the call's stop strings came.
    StopString(String),
    /// The bound on its length, or the room that the context left.
    Length,
}

impl From<&FinishReason> for Finish {
    fn from(reason: &FinishReason) -> Finish {
        match reason {
            FinishReason::EndOfTurn => Finish::EndOfTurn,
            FinishReason::StopString(text) => Finish::StopString(text.clone()),
            FinishReason::Length => Finish::Length,
        }
    }
}

/// The tokens of a call and its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) n_prompt: usize,
    /// Of those of the prompt, the ones that were not computed anew.
    pub(crate) n_reused: usize,
    pub(crate) n_generated: usize,
    /// Of those generated, the ones that the model thought in.
    pub(crate) n_thinking: usize,
}

impl From<&engine::Usage> for Usage {
    fn from(usage: &engine::Usage) -> Usage {
        Usage {
            n_prompt: usage.n_prompt,
            n_reused: usage.n_reused,
            n_generated: usage.n_generated,
            n_thinking: 0,
        }
    }
}

/// A whole answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) prompt: PromptTokens,
    pub(crate) parts: Vec<Part>,
    pub(crate) end: End,
}

/// Put a part to those before it.
pub(crate) fn join(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (Some(Part::Text(before)), Part::Text(more)) => before.join(more),
        (Some(Part::Thinking(before)), Part::Thinking(more)) => before.push_str(&more),
        (Some(Part::ToolCall(before)), Part::ToolCall(more)) if before.index == more.index => {
            before.arguments.push_str(&more.arguments);
        }
        (_, part) => parts.push(part),
    }
}
