//! A loaded model at work: `plan → run → sample → commit` over its sequences.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use scheduler::{
    BlockKey, ChainHash, EndReason, FormerBlock, ModelRunner, Plan, RunError, Scheduler, SchedulerConfig,
    SeqId, Step, StepOutput, StoreMode, SubmitError, TokenId,
};
use store::{AgentManifest, MissReason, Origin, SaveCandidate, StoreEvent};

use crate::agents::manifest_of;
use crate::answers::Answers;
use crate::command::{Command, Submission};
use crate::config::EngineConfig;
use crate::event::FinishReason;
use crate::hold_points::Fault;
use crate::keeping::{Standing, addresses_of, all_hashes, keep, own_hashes, recall, saved_tokens};
use crate::ledger::Ledger;
use crate::loader::{Loaded, ModelCard};
use crate::request::Refusal;
use crate::restoring::{Miss, Restoring};
use crate::sampled::Sampled;
use crate::sampling::{CannotSample, Scratch};
use crate::saving::Saving;
use crate::sequence::{Sequence, Taken};
use crate::soundness::is_sound;
use crate::stats::{ActiveRequest, N_ACTIVE, PoolCounts};
use crate::step_budget::StepBudget;

/// Blocks by which an agent's running answer grows between two writings of its manifest, each of which the disk has
/// to sync.
const NOTE_EVERY_BLOCKS: usize = 4;

/// Everything that is void when its worker dies: the runner with its pool, and the books about it.
pub(crate) struct Serving {
    pub(crate) card: Arc<ModelCard>,
    pub(crate) saving: Saving,
    pub(crate) restoring: Restoring,
    runner: Box<dyn ModelRunner>,
    scheduler: Scheduler,
    /// In the order in which they came.
    sequences: BTreeMap<SeqId, Sequence>,
    output: StepOutput,
    scratch: Scratch,
    budget: StepBudget,
    /// Sequences that the last plan admitted.
    admitted: Vec<SeqId>,
    /// Whether somebody waits for memory whose content is not durable yet.
    is_short_of_saved: bool,
    /// Whether the store was asked to hurry.
    pub(crate) is_hurrying: bool,
    config: EngineConfig,
}

impl Serving {
    pub(crate) fn new(
        loaded: Loaded,
        config: &EngineConfig,
        inbox: Sender<Command>,
        store: StoreMode,
    ) -> Serving {
        let Loaded { runner, card } = loaded;
        let scheduler = new_scheduler(runner.as_ref(), &card, config, store);
        config.store.use_model(card.fingerprint);
        Serving {
            restoring: Restoring::new(Arc::clone(&config.store), card.fingerprint, runner.layout(), inbox),
            saving: Saving::new(Arc::clone(&config.store), card.fingerprint, runner.layout()),
            card,
            runner,
            scheduler,
            sequences: BTreeMap::new(),
            output: StepOutput::default(),
            scratch: Scratch::default(),
            budget: StepBudget::new(config.step_token_budget, config.step_target),
            admitted: Vec::new(),
            is_short_of_saved: false,
            is_hurrying: false,
            config: config.clone(),
        }
    }

    /// Take a request into the queue, or refuse it at once.
    pub(crate) fn submit(&mut self, submission: Submission, ledger: &mut Ledger) {
        if let Err(refusal) = self.check(&submission) {
            return submission.refuse(refusal);
        }
        let id = ledger.next_seq();
        let (mut sequence, mut new) =
            Sequence::new(id, submission, &self.card.text, self.config.queue_timeout);
        new.former = self.former_block(&sequence);
        let refusal = match self.scheduler.submit(new) {
            Ok(submitted) => {
                sequence.set_max_tokens(submitted.max_new_tokens);
                let origin = if sequence.agent.is_some() { Origin::Named } else { Origin::Anonymous };
                let candidate = SaveCandidate { n_prompt_tokens: sequence.n_prompt, origin };
                if !self.config.store.admits(candidate) {
                    self.saving.spare(id);
                }
                self.sequences.insert(id, sequence);
                return;
            }
            Err(SubmitError::TooLong { n_tokens, limit }) => Refusal::TooLong { n_tokens, limit },
            Err(SubmitError::EmptyPrompt) => {
                Refusal::Invalid { param: "prompt", message: "the prompt is empty".to_owned() }
            }
            Err(error @ SubmitError::DuplicateId(_)) => {
                tracing::error!(request = %sequence.request_id, %error, "the scheduler refused a fresh id");
                Refusal::Fault { id: sequence.request_id.to_string() }
            }
        };
        sequence.fail(refusal, self.config.clock.now(), ledger);
    }

    /// What would make the runner fail must not reach it.
    fn check(&self, submission: &Submission) -> Result<(), Refusal> {
        let n_vocab = self.runner.cache_spec().n_vocab;
        match submission.request.prompt.iter().find(|&&token| token as usize >= n_vocab) {
            None => Ok(()),
            Some(token) => Err(Refusal::Invalid {
                param: "prompt",
                message: format!("token {token} of a vocabulary of {n_vocab}"),
            }),
        }
    }

    /// End sequences that nobody listens to, and refuse those that have waited too long.
    pub(crate) fn sweep(&mut self, now: Instant, ledger: &mut Ledger) {
        let gone: Vec<SeqId> = self.ids(Sequence::is_gone);
        for id in gone {
            self.retire(id);
            self.take(id, |sequence| sequence.cancel(now, ledger));
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
            self.end(id, refusal, now, ledger);
        }
    }

    /// Whether a test holds the next step.
    pub(crate) fn is_held(&self) -> bool {
        let is_writing = self.sequences.values().any(Sequence::is_writing);
        self.config.holds.is_held("step") || is_writing && self.config.holds.is_held("writing")
    }

    /// Decide the next step and tell the sequences what that means for them.
    pub(crate) fn plan(&mut self, now: Instant, ledger: &mut Ledger) -> Step {
        self.scheduler.set_token_budget(self.budget.n_tokens());
        let restoring = &self.restoring;
        let plan = self.scheduler.plan(&|key| restoring.may_have(key));
        let Plan { step, admitted, preempted, ended, restores, stalled } = plan;
        let is_waiting = !stalled.is_empty() || self.scheduler.counts().n_waiting > 0;
        self.is_short_of_saved = is_waiting && step.rows.is_empty() && self.scheduler.pool().n_unsaved > 0;
        for restore in restores {
            self.restoring.begin(restore, self.runner.as_mut());
        }
        for id in preempted {
            ledger.totals.preemptions += 1;
            self.sequences.entry(id).and_modify(Sequence::preempted);
        }
        for admitted in &admitted {
            if let Some(sequence) = self.sequences.get_mut(&admitted.seq) {
                sequence.admitted(admitted, now, ledger);
                self.note_miss(admitted.seq, admitted.n_reused, ledger);
            }
            self.admitted.push(admitted.seq);
        }
        for ended in ended {
            let EndReason::PoolExhausted(shortage) = ended.reason;
            self.take(ended.seq, |sequence| {
                let refusal = if sequence.has_begun() {
                    Refusal::Interrupted { why: "the memory for contexts has no room left" }
                } else {
                    Refusal::PoolExhausted {
                        needed: shortage.needed,
                        free: shortage.free,
                        total: shortage.total,
                    }
                };
                sequence.fail(refusal, now, ledger);
            });
        }
        step
    }

    /// Compute the step. An error voids the pool, and with it everything here.
    pub(crate) fn run(&mut self, step: &Step) -> Result<(), RunError> {
        self.config.holds.wait("forward");
        match self.config.holds.take_fault() {
            Some(Fault::Panic) => panic!("a panic that the switch step.panic asked for"),
            Some(Fault::Error) => {
                Err(RunError::Device("an error that the switch step.error asked for".to_owned()))
            }
            None => self.runner.run(step, &mut self.output),
        }
    }

    /// Choose a token for every row that came to its end, and send it.
    pub(crate) fn sample(
        &mut self,
        step: &Step,
        took: Duration,
        now: Instant,
        ledger: &mut Ledger,
    ) -> Sampled {
        let n_tokens: usize = step.rows.iter().map(|row| row.len()).sum();
        self.budget.observe(n_tokens, took);
        let mut n_prompt_tokens = 0;
        for row in &step.rows {
            if let Some(sequence) = self.sequences.get_mut(&row.seq) {
                n_prompt_tokens += sequence.computed(row);
            }
        }
        ledger.step(step.rows.len(), n_tokens, n_prompt_tokens, took);

        let mut logit_rows = self.output.logits.origin.iter().enumerate().peekable();
        let mut sampled = Sampled::default();
        for (row_idx, row) in step.rows.iter().enumerate() {
            if row.wanted.logits_of(row.len()).is_empty() {
                continue;
            }
            let mut last = None;
            while let Some((logit_idx, _)) = logit_rows.next_if(|(_, (origin, _))| *origin <= row_idx) {
                last = Some(logit_idx);
            }
            let Some(sequence) = self.sequences.get_mut(&row.seq) else { continue };
            let values = last.map_or(&[][..], |logit_idx| self.output.logits.row(logit_idx));
            match sequence.sample(values, &mut self.scratch, &self.card.text, now, ledger) {
                Ok(Taken::More(token)) => sampled.tokens.push((row.seq, token)),
                Ok(Taken::Last(token, reason)) => {
                    sampled.tokens.extend(token.map(|token| (row.seq, token)));
                    sampled.finished.push((row.seq, reason));
                }
                Err(CannotSample::Stuck(error)) => sampled.stuck.push((row.seq, error)),
                Err(CannotSample::NotFinite(error)) => {
                    tracing::error!(request = %sequence.request_id, %error, "the model's output cannot be used");
                    sampled.broken.push(row.seq);
                }
            }
        }
        sampled
    }

    /// Whether the model computes numbers, after a step that gave none.
    ///
    /// # Errors
    /// It computes nothing at all.
    pub(crate) fn is_sound(&mut self) -> Result<bool, RunError> {
        is_sound(&mut self.scheduler, self.runner.as_mut())
    }

    /// Book the step and end what is complete.
    pub(crate) fn commit(&mut self, step: &Step, sampled: Sampled, now: Instant, ledger: &mut Ledger) {
        // Before the commit, so that what this step wrote for them never becomes cache.
        for id in sampled.broken {
            self.end_broken(id, now, ledger);
        }
        let committed = self.scheduler.commit(step, &sampled.tokens);
        for id in std::mem::take(&mut self.admitted) {
            self.saving.complete(id, &mut self.scheduler);
        }
        for row in &step.rows {
            self.note_progress(row.seq);
        }
        for (id, reason) in sampled.finished {
            self.retire(id);
            self.take(id, |sequence| sequence.finish(reason, now, ledger));
        }
        for (id, error) in sampled.stuck {
            let refusal = Refusal::Invalid { param: "response_format", message: error.to_string() };
            self.end(id, refusal, now, ledger);
        }
        // Those that just finished are among them; what remains wanted its prompt computed and nothing more.
        for id in committed.at_limit {
            self.retire(id);
            self.take(id, |sequence| sequence.finish(FinishReason::Length, now, ledger));
        }
        ledger.totals.evictions = self.scheduler.pool().n_evictions;
        self.save(store::SaveReason::Tail);
    }

    /// Import what the store has sent.
    pub(crate) fn import(&mut self, ledger: &mut Ledger) {
        let misses = self.restoring.import(&mut self.scheduler, self.runner.as_mut(), &mut ledger.totals);
        for miss in misses {
            self.miss(&miss, ledger);
        }
    }

    /// Why an admitted prompt was not reused further: the store does not have its next block.
    fn note_miss(&mut self, id: SeqId, n_reused: usize, ledger: &mut Ledger) {
        let Some(sequence) = self.sequences.get(&id).filter(|s| self.config.store.is_on() && !s.has_missed())
        else {
            return;
        };
        let block_tokens = self.runner.layout().block_tokens;
        let end = (n_reused / block_tokens + 1) * block_tokens;
        // The last token is always computed.
        if end >= sequence.n_prompt {
            return;
        }
        let Some(hash) = self.scheduler.addresses(&sequence.tokens[..end]).whole.pop() else { return };
        let keys = self.scheduler.keys_at([hash]);
        let why = keys.iter().find_map(|key| Some((*key, self.restoring.why_missing(key)?)));
        if let Some((key, reason)) = why {
            self.miss(&Miss { seq: id, key, reason }, ledger);
        }
    }

    fn miss(&mut self, miss: &Miss, ledger: &mut Ledger) {
        let reason = miss.reason.name();
        *ledger.totals.restore_misses.entry(reason).or_default() += 1;
        let Some(sequence) = self.sequences.get_mut(&miss.seq) else { return };
        sequence.missed(reason);
        if miss.reason != MissReason::Absent {
            let block = text_of(&miss.key);
            tracing::warn!(request = %sequence.request_id, reason, block, "a stored block is not used");
        }
    }

    /// Offer what was completed to the store; `tail_reason` is why partial blocks are among it.
    pub(crate) fn save(&mut self, tail_reason: store::SaveReason) {
        self.saving.offer(&mut self.scheduler, self.runner.as_mut(), tail_reason);
    }

    /// The store has news.
    pub(crate) fn hear(&mut self, event: &StoreEvent) {
        self.saving.hear(event, &mut self.scheduler);
        if matches!(event, StoreEvent::Recovered | StoreEvent::Lost(_)) {
            self.save(store::SaveReason::Tail);
        }
    }

    /// Whether the store should not wait for more before it syncs.
    pub(crate) fn wants_hurry(&self) -> bool {
        self.is_short_of_saved && !self.is_hurrying && !self.saving.is_behind()
    }

    /// How many leading tokens of a conversation are in the pool.
    pub(crate) fn resident_tokens(&self, tokens: &[TokenId], whole: &[ChainHash]) -> usize {
        self.scheduler.resident_tokens(tokens, whole)
    }

    /// How many leading tokens of an agent's conversation a restart would find again.
    pub(crate) fn saved_tokens(&self, manifest: &AgentManifest) -> usize {
        saved_tokens(self.config.store.as_ref(), &self.scheduler, self.runner.layout(), manifest)
    }

    /// Requests of an agent that run or wait.
    pub(crate) fn n_requests_of(&self, agent: &str) -> usize {
        self.sequences.values().filter(|s| s.agent.as_deref() == Some(agent)).count()
    }

    /// Take what an agent has in the pool out of it, as far as it is saved and nobody needs it there.
    pub(crate) fn evict_agent(&mut self, name: &str) {
        let manifest = manifest_of(self.config.store.as_ref(), name, &self.card.fingerprint);
        self.evict(manifest.iter().flat_map(|manifest| all_hashes(manifest)).collect());
    }

    /// Take idle blocks out of the pool, as far as nothing else continues them.
    fn evict(&mut self, hashes: Vec<ChainHash>) {
        let keys = self.scheduler.keys_at(hashes);
        // What continues a block may stand before it in the list.
        while self.scheduler.evict(&keys) > 0 {}
    }

    /// Take what only this agent has out of the pool, saved or not; the store is the caller's matter.
    pub(crate) fn forget_agent(&mut self, name: &str) {
        let own = own_hashes(self.config.store.as_ref(), &self.card.fingerprint, name);
        let keys = self.scheduler.keys_at(own.iter().copied());
        self.saving.drop_blocks(&keys);
        keys.iter().for_each(|key| self.scheduler.mark_saved(key));
        self.evict(own);
        for sequence in self.sequences.values_mut() {
            if sequence.agent.as_deref() == Some(name) && sequence.has_begun() {
                sequence.is_forgotten = true;
            }
        }
    }

    /// An agent's prompt is complete, or its conversation has got some blocks longer: written down, a crash does not
    /// lose which ids these were.
    fn note_progress(&mut self, id: SeqId) {
        let block_tokens = self.runner.layout().block_tokens;
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        let n_blocks = sequence.n_computed / block_tokens;
        let noted = sequence.n_blocks_noted;
        let is_longer = n_blocks > 0 && (noted == 0 || n_blocks >= noted + NOTE_EVERY_BLOCKS);
        let is_due = sequence.n_computed >= sequence.n_prompt && is_longer;
        if is_due && !sequence.is_forgotten {
            sequence.n_blocks_noted = n_blocks;
            let sequence = &self.sequences[&id];
            if let Some(name) = &sequence.agent {
                self.keep(name, sequence, n_blocks * block_tokens);
            }
        }
    }

    /// Write down where a conversation stands of which a request has just ended.
    fn note_end(&self, id: SeqId, sequence: &Sequence) {
        let store = self.config.store.as_ref();
        if sequence.n_kept == 0 || !store.is_on() {
            return;
        }
        let Some(name) = &sequence.agent else {
            // For its generated ids: sent back as text after a restart, they are to be taken again.
            if self.saving.is_worth(id) && sequence.is_chat() {
                self.keep(&AgentManifest::unnamed(&self.root_of(sequence)), sequence, sequence.n_kept);
            }
            return;
        };
        self.keep(name, sequence, sequence.n_kept);
        if sequence.is_forgotten {
            // What it computed after its agent was deleted goes the same way.
            store.delete_agent(name, Box::new(|| {}));
        }
    }

    /// What tells a conversation without a name from others: all that stands before the first answer in it.
    fn root_of(&self, sequence: &Sequence) -> [u8; 32] {
        let generated = sequence.generated();
        let n_tokens = generated.first().map_or(sequence.n_prompt, |first| first.start);
        let addresses = self.scheduler.addresses(&sequence.tokens[..n_tokens]);
        addresses.all().next_back().map_or([0; 32], |hash| hash.0)
    }

    /// How a sequence's conversation went on before, where its prompt leaves what was kept of it.
    fn former_block(&self, sequence: &Sequence) -> Option<FormerBlock> {
        let store = self.config.store.as_ref();
        let unnamed = || AgentManifest::unnamed(&self.root_of(sequence));
        let name = sequence.agent.clone().or_else(|| store.is_on().then(unnamed))?;
        let manifest = manifest_of(store, &name, &self.card.fingerprint)?;
        let is_same_layout = manifest.block_tokens as usize == self.runner.layout().block_tokens;
        let addresses = addresses_of(&manifest);
        let former = || self.scheduler.former_block(&manifest.tokens, &addresses, &sequence.tokens);
        is_same_layout.then(former)?
    }

    fn keep(&self, name: &str, sequence: &Sequence, n_tokens: usize) {
        let tokens = &sequence.tokens[..n_tokens];
        let addresses = self.scheduler.addresses(tokens);
        // A partial block has an address of its own only where the sequence ended.
        let tail = addresses.tail.filter(|_| sequence.n_computed == n_tokens);
        let standing =
            Standing { name, tokens, whole: addresses.whole, tail, generated: sequence.generated() };
        keep(self.config.store.as_ref(), &self.card, self.runner.layout().block_tokens, standing);
    }

    /// Remember the answers of the agents that this model has on disk.
    pub(crate) fn recall(&self, answers: &Answers) {
        recall(self.config.store.as_ref(), &self.card, answers);
    }

    /// A sequence needs no memory any more; what it has becomes cache.
    fn retire(&mut self, id: SeqId) {
        self.saving.complete(id, &mut self.scheduler);
        if self.restoring.end(id) {
            self.scheduler.finish(id);
        }
    }

    /// The store has sent a piece of what a sequence is to be restored with.
    pub(crate) fn restored(
        &mut self,
        id: SeqId,
        piece: u64,
        found: Vec<Result<store::BlockRecord, MissReason>>,
    ) {
        if self.restoring.arrived(id, piece, found) {
            self.scheduler.finish(id);
        }
    }

    /// A sequence whose KV may be poisoned: nobody may reuse it.
    fn end_broken(&mut self, id: SeqId, now: Instant, ledger: &mut Ledger) {
        let gone = self.scheduler.discard(id);
        self.saving.drop_blocks(&gone);
        if let Some(sequence) = self.sequences.remove(&id) {
            let refusal = Refusal::Fault { id: sequence.request_id.to_string() };
            sequence.fail(refusal, now, ledger);
        }
    }

    /// End a sequence with an error.
    pub(crate) fn end(&mut self, id: SeqId, refusal: Refusal, now: Instant, ledger: &mut Ledger) {
        self.retire(id);
        self.take(id, |sequence| sequence.fail(refusal, now, ledger));
    }

    /// End every sequence for which `refuse` has an error.
    pub(crate) fn end_where(
        &mut self,
        refuse: impl Fn(&Sequence) -> Option<Refusal>,
        now: Instant,
        ledger: &mut Ledger,
    ) -> usize {
        let refusals: Vec<_> = self.sequences.iter().filter_map(|(id, s)| Some((*id, refuse(s)?))).collect();
        let n = refusals.len();
        for (id, refusal) in refusals {
            self.end(id, refusal, now, ledger);
        }
        n
    }

    /// The worker is lost: every sequence ends, without a word to the scheduler, which may be the one that broke.
    pub(crate) fn abandon(self, now: Instant, ledger: &mut Ledger, refuse: impl Fn(&Sequence) -> Refusal) {
        for sequence in self.sequences.into_values() {
            let refusal = refuse(&sequence);
            sequence.fail(refusal, now, ledger);
        }
    }

    /// Sequences that have begun.
    pub(crate) fn n_running(&self) -> usize {
        self.sequences.values().filter(|s| s.has_begun()).count()
    }

    /// Sequences that have not.
    pub(crate) fn n_waiting(&self) -> usize {
        self.sequences.len() - self.n_running()
    }

    /// How far the first [`N_ACTIVE`] sequences are.
    pub(crate) fn active(&self) -> Arc<[ActiveRequest]> {
        self.sequences.values().take(N_ACTIVE).map(Sequence::progress).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// When the next sequence will have waited too long.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.sequences.values().filter(|s| !s.has_begun()).map(|s| s.queue_deadline).min()
    }

    pub(crate) fn pool(&self) -> PoolCounts {
        let counts = self.scheduler.pool();
        PoolCounts {
            free: counts.n_free,
            held: counts.n_unavailable(),
            cached: counts.n_evictable,
            total: counts.n_total,
            block_bytes: self.runner.layout().block_bytes,
            block_tokens: self.runner.layout().block_tokens,
        }
    }

    fn ids(&self, which: impl Fn(&Sequence) -> bool) -> Vec<SeqId> {
        self.sequences.iter().filter(|(_, s)| which(s)).map(|(id, _)| *id).collect()
    }

    fn take(&mut self, id: SeqId, end: impl FnOnce(Sequence)) {
        if let Some(sequence) = self.sequences.remove(&id) {
            self.note_end(id, &sequence);
            end(sequence);
        }
    }
}

fn text_of(key: &BlockKey) -> String {
    let hash: String = key.hash.0[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hash}/{}", key.group_idx)
}

fn new_scheduler(
    runner: &dyn ModelRunner,
    card: &ModelCard,
    config: &EngineConfig,
    store: StoreMode,
) -> Scheduler {
    let max_context = runner.cache_spec().max_context.min(card.effective_context);
    let scheduler_config = SchedulerConfig {
        step_token_budget: config.step_token_budget,
        max_rows: config.max_batch,
        max_chunk: config.prefill_chunk,
        store,
        ..SchedulerConfig::new(max_context, card.fingerprint)
    };
    Scheduler::new(runner.layout(), runner.n_blocks(), scheduler_config)
}
