//! A call under way: the engine's events as what happens to an answer.

use std::sync::Arc;
use std::time::Instant;

use engine::{EngineHandle, Event, EventStream, Refusal};

use super::answer::{Answer, End, Head, Part, Parts, PromptTokens, Usage, join};
use super::call::Names;
use super::fault::Fault;
use super::prepare::Prepared;

/// A call that the engine has taken. Whoever drops it ends it.
pub(crate) struct Running {
    /// What is known of the answer already.
    pub(crate) head: Head,
    events: EventStream,
    parts: Parts,
    names: Names,
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
        let Prepared { card, request } = prepared;
        let permit = engine.try_permit_for(&request.model)?;
        Ok(Running {
            head: Head::new(&card),
            events: engine.submit(permit, request, received),
            parts: Parts::new(Arc::clone(&card.text)),
            names,
        })
    }

    /// What happens next; nothing after the end. It may be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<Happening> {
        Some(match self.events.recv().await? {
            Event::Admitted { n_prompt, n_reused } => {
                Happening::Admitted(PromptTokens { n_prompt, n_reused })
            }
            Event::Prefilled { done, total } => Happening::Prefilled { done, total },
            Event::Text { text, logprobs, .. } => Happening::Parts(self.parts.take(text, logprobs)),
            Event::Finished { reason, usage } => {
                let (finish, usage, times) = ((&reason).into(), (&usage).into(), (&usage).into());
                Happening::Ended(End { finish, usage, times })
            }
            Event::Failed { error, usage } => {
                Happening::Failed { fault: self.of_refusal(error), usage: (&usage).into() }
            }
        })
    }

    /// The answer in one piece, or why there is none; and what it took, either way.
    pub(crate) async fn whole(&mut self) -> (Result<Answer, Fault>, Usage) {
        let mut parts = Vec::new();
        while let Some(happening) = self.next().await {
            match happening {
                Happening::Admitted(_) | Happening::Prefilled { .. } => {}
                Happening::Parts(more) => more.into_iter().for_each(|part| join(&mut parts, part)),
                Happening::Ended(end) => {
                    let usage = end.usage;
                    return (Ok(Answer { parts, end }), usage);
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
