//! The answers to a call: most calls have one. Several are computed side by side, and what their prompts share once.

use std::sync::Arc;
use std::time::Instant;

use engine::{EngineHandle, Refusal};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, SelectAll};

use super::answer::{Answer, End, Head, Usage, join};
use super::call::Names;
use super::fault::Fault;
use super::prepare::Prepared;
use super::reading::Parts;
use super::run::{CacheUse, Happening, Running};

/// Answers of a call that the engine has taken. Whoever drops it ends them all.
pub(crate) struct Answering {
    /// What is known of them already.
    pub(crate) head: Head,
    happenings: SelectAll<BoxStream<'static, (usize, Happening)>>,
    /// Answers to each prompt; those to one follow each other.
    n_each: usize,
    /// What each took, as far as they have ended.
    usages: Vec<Option<Usage>>,
    /// What the prompt of the first took that the engine has taken.
    pub(crate) cache_use: Option<CacheUse>,
    /// Whether one of them has parts.
    has_parts: bool,
}

impl Answering {
    /// Hand a call that was `received` at that time to the engine.
    ///
    /// # Errors
    /// Nothing more is taken now, or not as many as it has answers.
    pub(crate) fn start(
        engine: &EngineHandle,
        prepared: Prepared,
        names: Names,
        received: Instant,
    ) -> Result<Answering, Fault> {
        let Prepared { card, request, more, n_each, reading } = prepared;
        let requests: Vec<engine::Request> = [request].into_iter().chain(more).collect();
        let permits = requests.iter().map(|request| engine.try_permit_for(&request.model));
        // All of them or none: the others' work would be for nothing.
        let permits = permits.collect::<Result<Vec<_>, Refusal>>()?;
        let mut happenings = SelectAll::new();
        let usages = vec![None; requests.len()];
        for (choice, (request, permit)) in requests.into_iter().zip(permits).enumerate() {
            let events = engine.submit(permit, request, received);
            let running = Running::new(events, Parts::new(Arc::clone(&card.text), reading.clone()), names);
            let happening = move |mut running: Running| async move {
                let happening = running.next().await?;
                Some(((choice, happening), running))
            };
            happenings.push(stream::unfold(running, happening).boxed());
        }
        let head = Head::new(&card);
        Ok(Answering { head, happenings, n_each, usages, cache_use: None, has_parts: false })
    }

    /// What happens next, and to which of them; nothing after the end of all. It may be dropped while it waits: nothing
    /// is lost.
    pub(crate) async fn next(&mut self) -> Option<(usize, Happening)> {
        loop {
            let (choice, happening) = self.happenings.next().await?;
            let is_one_of_several = self.usages.len() > 1;
            match &happening {
                // The first that is taken reads what the others share: how far it has come is how far all have.
                Happening::Admitted(_) if self.cache_use.is_some() => continue,
                Happening::Admitted(cache_use) => self.cache_use = Some(*cache_use),
                Happening::Prefilled { .. } if is_one_of_several && self.has_parts => continue,
                Happening::Parts(_) => self.has_parts = true,
                _ => {}
            }
            return Some((choice, self.noted(choice, happening)));
        }
    }

    /// What has happened to an answer, with what all took where that is known now.
    fn noted(&mut self, choice: usize, happening: Happening) -> Happening {
        match happening {
            Happening::Ended(end) => {
                self.usages[choice] = Some(end.usage);
                match self.has_ended() {
                    true => Happening::Ended(End { usage: self.usage(), ..end }),
                    false => Happening::OneEnded(end),
                }
            }
            Happening::Failed { fault, usage } => {
                // Without one of them there is no answer to the call.
                self.happenings.clear();
                self.usages[choice] = Some(usage);
                Happening::Failed { fault, usage: self.usage() }
            }
            happening => happening,
        }
    }

    fn has_ended(&self) -> bool {
        self.usages.iter().all(Option::is_some)
    }

    /// What those took that have ended: each prompt once, and of that what had to be computed by the first.
    fn usage(&self) -> Usage {
        let of_prompt = |usages: &[Option<Usage>]| {
            let ended = || usages.iter().flatten();
            Usage {
                n_prompt: ended().map(|usage| usage.n_prompt).max().unwrap_or(0),
                n_reused: ended().map(|usage| usage.n_reused).min().unwrap_or(0),
                n_generated: ended().map(|usage| usage.n_generated).sum(),
                n_thinking: ended().map(|usage| usage.n_thinking).sum(),
            }
        };
        self.usages.chunks(self.n_each).map(of_prompt).fold(Usage::default(), |all, usage| Usage {
            n_prompt: all.n_prompt + usage.n_prompt,
            n_reused: all.n_reused + usage.n_reused,
            n_generated: all.n_generated + usage.n_generated,
            n_thinking: all.n_thinking + usage.n_thinking,
        })
    }

    /// The answers in one piece, or why there are none; and what they took, either way.
    pub(crate) async fn whole(&mut self) -> (Result<Vec<Answer>, Fault>, Usage) {
        let mut parts = vec![Vec::new(); self.usages.len()];
        let mut ends: Vec<Option<End>> = vec![None; self.usages.len()];
        while !self.has_ended() {
            let Some((choice, happening)) = self.next().await else { break };
            match happening {
                Happening::Admitted(_) | Happening::Prefilled { .. } => {}
                Happening::Parts(more) => more.into_iter().for_each(|part| join(&mut parts[choice], part)),
                Happening::OneEnded(end) | Happening::Ended(end) => ends[choice] = Some(end),
                Happening::Failed { fault, usage } => return (Err(fault), usage),
            }
        }
        let prompt = self.cache_use.map(|cache_use| cache_use.prompt).unwrap_or_default();
        let answers =
            parts.into_iter().zip(ends).map(|(parts, end)| Some(Answer { prompt, parts, end: end? }));
        let answers = answers.collect::<Option<Vec<Answer>>>().ok_or_else(|| self.broken_off());
        (answers, self.usage())
    }

    /// The engine promises a last event; this is said where it broke that promise.
    pub(crate) fn broken_off(&self) -> Fault {
        Fault::internal("the engine's stream", format!("answer {} has no end", self.head.id))
    }
}
