//! A call under way: the engine's events as what happens to an answer.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::Instant;

use engine::{EngineHandle, Event, EventStream, Refusal};

use super::answer::{Answer, End, Head, Missed, Part, PromptTokens, Usage, join};
use super::call::Names;
use super::fault::Fault;
use super::prepare::Prepared;
use super::reading::Parts;

/// A call that the engine has taken. Whoever drops it ends it.
pub(crate) struct Running {
    /// What is known of the answer already.
    pub(crate) head: Head,
    events: EventStream,
    parts: Parts,
    /// The last thing, after what was held back until it happened.
    last: Option<Happening>,
    names: Names,
    /// What its prompt took, once it was admitted.
    pub(crate) cache_use: Option<CacheUse>,
}

/// What of a prompt was there, and what was not, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheUse {
    n_reused: usize,
    n_prefilled: usize,
    /// Of those reused, the ones that came back from disk.
    n_restored: usize,
}

impl Display for CacheUse {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let CacheUse { n_reused, n_prefilled, n_restored } = self;
        write!(f, "reused={n_reused}; prefilled={n_prefilled}; restored={n_restored}")
    }
}

/// Something that happens to an answer. The last thing is that it ends or breaks off.
#[derive(Debug, PartialEq)]
pub(crate) enum Happening {
    /// The engine has taken it.
    Admitted(PromptTokens),
    /// The prompt is being read: so many of its tokens in all are done.
    Prefilled {
        done: usize,
        total: usize,
    },
    /// More of it is there; maybe nothing that can be shown yet.
    Parts(Vec<Part>),
    Ended(End),
    Failed {
        fault: Fault,
        usage: Usage,
    },
}

impl Running {
    /// Hand a call that was `received` at that time to the engine.
    ///
    /// # Errors
    /// Nothing more is taken now.
    pub(crate) fn start(
        engine: &EngineHandle,
        prepared: Prepared,
        names: Names,
        received: Instant,
    ) -> Result<Running, Fault> {
        let Prepared { card, request, reading } = prepared;
        let permit = engine.try_permit_for(&request.model)?;
        Ok(Running {
            head: Head::new(&card),
            events: engine.submit(permit, request, received),
            parts: Parts::new(Arc::clone(&card.text), reading),
            last: None,
            names,
            cache_use: None,
        })
    }

    /// What happens next; nothing after the end. It may be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<Happening> {
        if let Some(last) = self.last.take() {
            return Some(last);
        }
        let last = match self.events.recv().await? {
            Event::Admitted { n_prompt, n_reused, n_restored, difference } => {
                self.cache_use =
                    Some(CacheUse { n_reused, n_prefilled: n_prompt.saturating_sub(n_reused), n_restored });
                let missed = difference.as_ref().and_then(Missed::of);
                return Some(Happening::Admitted(PromptTokens { n_prompt, n_reused, missed }));
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

    /// The answer in one piece, or why there is none; and what it took, either way.
    pub(crate) async fn whole(&mut self) -> (Result<Answer, Fault>, Usage) {
        let mut parts = Vec::new();
        let mut prompt = PromptTokens::default();
        while let Some(happening) = self.next().await {
            match happening {
                Happening::Admitted(tokens) => prompt = tokens,
                Happening::Prefilled { .. } => {}
                Happening::Parts(more) => more.into_iter().for_each(|part| join(&mut parts, part)),
                Happening::Ended(end) => {
                    let usage = end.usage;
                    return (Ok(Answer { prompt, parts, end }), usage);
                }
                Happening::Failed { fault, usage } => return (Err(fault), usage),
            }
        }
        (Err(self.broken_off()), Usage::default())
    }

    /// The engine promises a last event; this is said where it broke that promise.
    pub(crate) fn broken_off(&self) -> Fault {
        Fault::internal("the engine's stream", format!("answer {} has no end", self.head.id))
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
