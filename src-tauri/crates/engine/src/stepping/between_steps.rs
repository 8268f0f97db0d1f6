//! What a model's sequences need between two steps: those that nobody waits for end, what was completed goes to the
//! store, what the store has sent comes into the pool.

use std::time::Instant;

use scheduler::{BlockKey, SeqId};
use store::{MissReason, SaveReason, StoreEvent};

use super::postponed::Postponed;
use super::sequence::Sequence;
use super::serving::Serving;
use crate::inbox::command::Command;
use crate::keeping::restoring::Miss;
use crate::tally::Tally;
use crate::told::request::Refusal;

impl Serving {
    /// Everything that is due before the next step. Not while one is under way: it has the runner.
    pub(crate) fn prepare_step(&mut self, now: Instant, tally: &mut Tally) {
        self.sweep(now, tally);
        if self.checkpoints.write_rested(now, &mut self.scheduler) || self.saving.is_behind() {
            self.save(SaveReason::Tail);
        }
        self.import(tally);
    }

    /// End sequences that nobody listens to, and refuse those that have waited too long.
    fn sweep(&mut self, now: Instant, tally: &mut Tally) {
        let gone: Vec<SeqId> = self.ids(Sequence::is_gone);
        for id in gone {
            self.take(id, |sequence, progress| sequence.cancel(progress, now, tally));
        }
        let late: Vec<SeqId> = self.ids(|s| !s.has_begun() && s.queue_deadline <= now);
        for id in late {
            // A sequence whose blocks are being restored has its room already.
            let Some(shortage) = self.scheduler.shortage(id) else { continue };
            let refusal = if shortage.needed > shortage.free {
                Refusal::PoolExhausted { needed: shortage.needed, free: shortage.free, total: shortage.total }
            } else {
                Refusal::Busy { n_waiting: self.n_waiting() }
            };
            self.end(id, refusal, now, tally);
        }
    }

    /// Import what the store has sent.
    fn import(&mut self, tally: &mut Tally) {
        let misses = self.restoring.import(&mut self.scheduler, self.runner.as_mut(), &mut tally.totals);
        for miss in misses {
            self.miss(&miss, tally);
        }
    }

    /// Offer what was completed to the store; `tail_reason` is why partial blocks are among it. Later, when a step is
    /// under way.
    pub(crate) fn save(&mut self, tail_reason: SaveReason) {
        if self.under_way.is_none() {
            self.saving.offer(&mut self.scheduler, self.runner.as_mut(), tail_reason);
        }
    }

    /// The store has news.
    pub(super) fn hear(&mut self, event: &StoreEvent) {
        self.saving.hear(event, &mut self.scheduler);
        self.hear_of_states(event);
        if matches!(event, StoreEvent::Recovered | StoreEvent::Lost(_)) {
            self.save(SaveReason::Tail);
        }
    }

    /// The store has sent a piece of what a sequence is to be restored with.
    pub(super) fn restored(
        &mut self,
        id: SeqId,
        piece: u64,
        found: Vec<Result<store::BlockRecord, MissReason>>,
    ) {
        if self.restoring.arrived(id, piece, found) {
            self.scheduler.finish(id);
        }
    }

    /// Where somebody waits for memory whose content is not durable yet, the store should not wait for more before it
    /// syncs.
    pub(crate) fn hurry_the_store(&mut self) {
        if self.is_short_of_saved {
            self.write_states_for_room();
        }
        if self.is_short_of_saved && !self.is_hurrying && !self.saving.is_behind() {
            self.is_hurrying = true;
            let (inbox, model) = (self.inbox.clone(), self.model.clone());
            self.config.store.flush(Box::new(move |_| drop(inbox.send(Command::Hurried { model }))));
        }
    }

    /// Why no more of an admitted prompt was there than its first `n_there` tokens: the store does not have the next block.
    pub(super) fn note_miss(&mut self, id: SeqId, n_there: usize, tally: &mut Tally) {
        if !self.config.store.is_on() || self.sequences.get(&id).is_none_or(Sequence::has_missed) {
            return;
        }
        let block_tokens = self.runner.layout().block_tokens;
        let end = (n_there / block_tokens + 1) * block_tokens;
        let prompt = self.scheduler.progress(id).unwrap_or_default().prompt();
        // The last token is always computed.
        if end >= prompt.len() {
            return;
        }
        let Some(hash) = self.scheduler.addresses(&prompt[..end]).whole.pop() else { return };
        let mut keys = self.scheduler.keys_at([hash]);
        // States are kept at a few places only, and what that comes to is told by itself.
        keys.retain(|key| !key.group.is_state());
        if let Some((key, reason)) = self.restoring.first_missing(&keys) {
            self.miss(&Miss { seq: id, key, reason }, tally);
        }
    }

    fn miss(&mut self, miss: &Miss, tally: &mut Tally) {
        let reason = miss.reason.name();
        *tally.totals.restore_misses.entry(reason).or_default() += 1;
        let Some(sequence) = self.sequences.get_mut(&miss.seq) else { return };
        sequence.missed(reason);
        if miss.reason != MissReason::Absent {
            let block = text_of(&miss.key);
            tracing::warn!(request = %sequence.request_id, reason, block, "a stored block is not used");
        }
    }

    /// Do it now, or when the step under way has been committed.
    pub(crate) fn when_idle(&mut self, what: Postponed) {
        self.postponed.push(what);
        self.catch_up();
    }

    /// Do what had to wait for the step's end.
    pub(super) fn catch_up(&mut self) {
        if self.under_way.is_some() {
            return;
        }
        for what in std::mem::take(&mut self.postponed) {
            match what {
                Postponed::Hear(event) => self.hear(&event),
                Postponed::Restored { seq, piece, found } => self.restored(seq, piece, found),
                Postponed::WriteStates(agent) => {
                    self.checkpoints.write_of(&agent, &mut self.scheduler);
                    self.save(SaveReason::Tail);
                }
                Postponed::Evict(agent, hashes) => {
                    self.release_pins(&agent);
                    self.checkpoints.leave(&agent);
                    self.evict(hashes);
                }
                Postponed::Forget(agent, hashes) => {
                    self.release_pins(&agent);
                    self.checkpoints.forget(&agent, &mut self.scheduler, &mut self.saving);
                    self.forget(hashes);
                }
                Postponed::Repin(agent) => self.repin(&agent),
            }
        }
    }

    fn ids(&self, which: impl Fn(&Sequence) -> bool) -> Vec<SeqId> {
        self.sequences.iter().filter(|(_, s)| which(s)).map(|(id, _)| *id).collect()
    }
}

fn text_of(key: &BlockKey) -> String {
    let hash: String = key.hash.0[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hash}/{}", key.group.idx())
}
