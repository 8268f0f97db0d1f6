//! An answer under way: the engine's events as what happens to it.

use std::fmt::{self, Display, Formatter};

use engine::{Event, EventStream, Refusal};

use super::answer::{End, Missed, Part, PromptTokens, Usage};
use super::call::Names;
use super::fault::Fault;
use super::reading::Parts;

/// An answer that the engine has taken. Whoever drops it ends it.
pub(super) struct Running {
    events: EventStream,
    parts: Parts,
    /// The last thing, after what was held back until it happened.
    last: Option<Happening>,
    names: Names,
}

/// What of a prompt was there, and what was not, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheUse {
    pub(crate) prompt: PromptTokens,
    /// Of those reused, the ones that came back from disk.
    n_restored: usize,
    /// On a model with recurrent layers, those that were there too and are read again, for want of a state at their end.
    n_without_state: Option<usize>,
}

impl Display for CacheUse {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let CacheUse { prompt: PromptTokens { n_prompt, n_reused, .. }, n_restored, n_without_state } = self;
        let n_prefilled = n_prompt.saturating_sub(*n_reused);
        write!(f, "reused={n_reused}; prefilled={n_prefilled}; restored={n_restored}")?;
        match n_without_state {
            Some(n_tokens) => write!(f, "; without_state={n_tokens}"),
            None => Ok(()),
        }
    }
}

/// Something that happens to an answer. The last thing is that it ends or breaks off.
#[derive(Debug, PartialEq)]
pub(crate) enum Happening {
    /// The engine has taken it.
    Admitted(CacheUse),
    /// The prompt is being read: so many of its tokens in all are done.
    Prefilled {
        done: usize,
        total: usize,
    },
    /// More of it is there; maybe nothing that can be shown yet.
    Parts(Vec<Part>),
    /// It has ended, and others to the same call go on.
    OneEnded(End),
    Ended(End),
    Failed {
        fault: Fault,
        usage: Usage,
    },
}

impl Running {
    /// Of the answer whose events these are, to be read like this.
    pub(super) fn new(events: EventStream, parts: Parts, names: Names) -> Running {
        Running { events, parts, last: None, names }
    }

    /// What happens next; nothing after the end. It may be dropped while it waits: nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Happening> {
        if let Some(last) = self.last.take() {
            return Some(last);
        }
        let last = match self.events.recv().await? {
            Event::Admitted { n_prompt, n_reused, n_restored, difference, checkpoint } => {
                let missed = difference.as_ref().and_then(Missed::of);
                let prompt = PromptTokens { n_prompt, n_reused, missed };
                let n_without_state = checkpoint.map(|checkpoint| checkpoint.n_without_state);
                return Some(Happening::Admitted(CacheUse { prompt, n_restored, n_without_state }));
            }
            Event::Prefilled { done, total } => return Some(Happening::Prefilled { done, total }),
            Event::Text { text, tokens, logprobs } => {
                return Some(Happening::Parts(self.parts.take(text, &tokens, logprobs)));
            }
            Event::Finished { reason, usage } => {
                let (finish, times) = ((&reason).into(), (&usage).into());
                Happening::Ended(End { finish, usage: self.usage(&usage), times })
            }
            Event::Failed { error, usage } => {
                Happening::Failed { fault: self.of_refusal(error), usage: self.usage(&usage) }
            }
        };
        let rest = self.parts.rest();
        let last = match last {
            Happening::Ended(end) => Happening::Ended(End { finish: self.parts.finish(end.finish), ..end }),
            last => last,
        };
        if rest.is_empty() {
            return Some(last);
        }
        self.last = Some(last);
        Some(Happening::Parts(rest))
    }

    fn usage(&self, usage: &engine::Usage) -> Usage {
        Usage { n_thinking: self.parts.n_thinking(), ..usage.into() }
    }

    /// A refusal, by the names that the call's API has for what it is about.
    fn of_refusal(&self, refusal: Refusal) -> Fault {
        let name = match &refusal {
            Refusal::TooLong { .. } | Refusal::Invalid { param: "prompt", .. } => Some(self.names.prompt),
            Refusal::Invalid { param: "response_format", .. } => Some(self.names.format),
            _ => None,
        };
        let fault = Fault::from(refusal);
        match name {
            Some(name) => fault.at(name),
            None => fault,
        }
    }
}
