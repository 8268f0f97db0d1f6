//! What becomes of the states that sequences leave behind on a model with recurrent layers, see
//! `keeping/checkpoints.rs`.

use scheduler::{BlockKey, ChainHash, SeqId};
use store::{AgentManifest, SaveReason, StoreEvent};

use super::postponed::Postponed;
use super::serving::Serving;
use crate::keeping::checkpoints::Beginning;
use crate::tally::Tally;

impl Serving {
    /// A sequence has been admitted: from now on its states are those of its conversation.
    pub(super) fn begin_conversation(&mut self, id: SeqId) {
        let Some(sequence) = self.sequences.get(&id).filter(|sequence| !sequence.is_forgotten) else {
            return;
        };
        if !self.checkpoints.is_on() {
            return;
        }
        let is_worth = self.saving.is_worth(id);
        let prompt = self.scheduler.progress(id).unwrap_or_default().prompt();
        let unnamed = || AgentManifest::unnamed(&self.root_of(prompt, &sequence.generated(prompt.len())));
        let name = sequence.agent.clone().unwrap_or_else(unnamed);
        let block_tokens = self.runner.layout().block_tokens;
        let whole = self.scheduler.addresses(prompt).whole;
        let scheduler = &self.scheduler;
        let address = |n_tokens: usize| match n_tokens % block_tokens {
            0 => whole.get((n_tokens / block_tokens).checked_sub(1)?).copied(),
            _ => scheduler.addresses(prompt.get(..n_tokens)?).tail,
        };
        let system_end = sequence.system_end.and_then(|at| address(at - at % block_tokens));
        self.checkpoints.begin(&Beginning { id, name, system_end, is_worth, address: &address });
    }

    /// Look at which places sequences came by where their states are kept.
    pub(super) fn follow_checkpoints(&mut self, tally: &mut Tally) {
        for taken in self.scheduler.take_checkpoints() {
            if !taken.is_there {
                tally.totals.checkpoints_skipped += 1;
                self.sequences.entry(taken.seq).and_modify(super::sequence::Sequence::skipped_checkpoint);
            }
            self.checkpoints.took(&taken, &mut self.scheduler, &mut self.saving);
        }
    }

    /// A sequence is gone from the scheduler, and has left its last state behind.
    pub(super) fn end_conversation(&mut self, id: SeqId) {
        for taken in self.scheduler.take_checkpoints() {
            self.checkpoints.took(&taken, &mut self.scheduler, &mut self.saving);
        }
        self.checkpoints.end(id, self.config.clock.now());
    }

    /// Whether somebody waits for memory that states hold which nobody has written yet. `is_stalled` where a sequence does
    /// that has begun.
    pub(super) fn is_short_of_states(&self, is_stalled: bool) -> bool {
        if !self.checkpoints.is_holding() {
            return false;
        }
        let mut waiting = self.sequences.iter().filter(|(_, sequence)| !sequence.has_begun());
        let lacks = |id: &SeqId| self.scheduler.shortage(*id).is_some_and(|lack| lack.needed > lack.free);
        is_stalled || waiting.next().is_some_and(|(id, _)| lacks(id))
    }

    /// Have all states written that wait for it, for the sake of the memory that they hold.
    pub(super) fn write_states_for_room(&mut self) {
        if self.checkpoints.is_holding() {
            self.checkpoints.write_all(&mut self.scheduler);
            self.save(SaveReason::Tail);
        }
    }

    /// Have an agent's states written, because it is to leave memory.
    pub(crate) fn write_states_of(&mut self, name: &str) {
        self.when_idle(Postponed::WriteStates(name.to_owned()));
    }

    /// What the store's news mean for states; the pool knows of them already.
    pub(super) fn hear_of_states(&mut self, event: &StoreEvent) {
        let leaving = self.checkpoints.hear(event, &mut self.scheduler);
        if !leaving.is_empty() {
            self.evict(leaving);
        }
    }

    /// The pieces of the states that an agent which goes by these addresses goes on with.
    pub(super) fn states_to_pin(&self, name: &str, path: &[ChainHash]) -> Vec<BlockKey> {
        let mut states = self.checkpoints.newest_of(name);
        states.retain(|hash| self.scheduler.has_state(hash));
        if states.is_empty() {
            // It has not been used since the model was loaded.
            let mut on_path = path.iter().rev().filter(|hash| self.scheduler.has_state(hash));
            states.extend(on_path.next());
        }
        let keys = self.scheduler.keys_at(states);
        keys.into_iter().filter(|key| key.group.is_state()).collect()
    }
}
