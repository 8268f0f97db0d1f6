//! Random operations on the scheduler, with every invariant checked after each and every KV read proved right.

use std::collections::HashSet;

use fastrand::Rng;

use super::sim::{Sim, checked, layout_with_state};
use crate::{
    BlockKey, ChainHash, EndReason, NewSequence, PromptLogits, Restore, Scheduler, SchedulerConfig, SeqId,
    SeqState, StatePoints, StoreMode, SubmitError, TokenId,
};

struct Run {
    sim: Sim,
    rng: Rng,
    alive: Vec<SeqId>,
    pinned: Vec<BlockKey>,
    /// Those that are to be written, or not, before their memory may be taken.
    checkpoints: Vec<ChainHash>,
    preempted: HashSet<SeqId>,
    prompts: Vec<Vec<TokenId>>,
    n_ids: u64,
    happened: Happened,
    /// Whether blocks were ever kept from eviction; else what follows a prefix must always go before it.
    is_constrained: bool,
}

/// How often each thing happened that the invariants must survive; a run in which one never did proves nothing.
#[derive(Debug, Default)]
struct Happened {
    n_ops: usize,
    n_reused: usize,
    n_restored: usize,
    n_copied: usize,
    n_discarded: usize,
    n_preempted: usize,
    n_resumed_by_restore: usize,
    n_stalled: usize,
    n_ended: usize,
    n_evicted: u64,
    n_checkpoints: usize,
    n_without_room: usize,
    n_without_state: usize,
    n_states_saved: usize,
    n_states_restored: usize,
}

const MODES: [StoreMode; 2] = [StoreMode::On, StoreMode::Off];

const SHAPES: [&[Option<usize>]; 6] = [
    &[None],
    &[None, Some(6)],
    &[None, Some(5), Some(9)],
    &[None, None, Some(4), Some(4)],
    &[Some(7)],
    &[None, Some(1), Some(2)],
];

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = Rng::with_seed(seed);
        let n_pieces = [0, 0, 1, 2, 3][rng.usize(..5)];
        let layout = layout_with_state(4, SHAPES[rng.usize(..SHAPES.len())], n_pieces);
        let n_blocks = (5 + rng.usize(..20)) * layout.groups.len() + (2 + rng.usize(..8)) * n_pieces;
        let is_constrained = rng.usize(..4) > 0;
        let store = if is_constrained && rng.usize(..2) == 0 { StoreMode::On } else { StoreMode::Off };
        let config = SchedulerConfig {
            step_token_budget: 1 + rng.usize(..24),
            max_rows: 1 + rng.usize(..8),
            max_chunk: 1 + rng.usize(..16),
            max_context: 24 + rng.usize(..80),
            window_kept_every: [8, 16, 1024][rng.usize(..3)],
            max_passes: rng.usize(..4),
            store,
            ..SchedulerConfig::new(0, [7; 32])
        };
        let scheduler = Scheduler::new(&layout, n_blocks, config);
        Run {
            sim: Sim::new(scheduler, &layout, n_blocks, store),
            rng,
            alive: Vec::new(),
            pinned: Vec::new(),
            checkpoints: Vec::new(),
            preempted: HashSet::new(),
            prompts: Vec::new(),
            n_ids: 0,
            happened: Happened::default(),
            is_constrained,
        }
    }

    fn check(&self) {
        self.sim.scheduler.check_integrity().unwrap();
        if !self.is_constrained {
            self.sim.scheduler.cache.check_prefixes_outlive().unwrap();
        }
    }

    fn submit(&mut self) {
        if self.alive.len() >= 12 {
            return;
        }
        let mut prompt = match self.rng.usize(..3) {
            0 => Vec::new(),
            _ => {
                let idx = self.rng.usize(..self.prompts.len().max(1));
                let mut prompt = self.prompts.get(idx).cloned().unwrap_or_default();
                prompt.truncate(self.rng.usize(..prompt.len() + 1));
                prompt
            }
        };
        for _ in 0..self.rng.usize(..16) {
            prompt.push(self.rng.usize(..2) as u32);
        }
        if prompt.is_empty() {
            return;
        }
        self.n_ids += 1;
        let id = SeqId(self.n_ids);
        let scheduler = &self.sim.scheduler;
        let past = self.prompts.get(self.rng.usize(..self.prompts.len().max(1)));
        let former = past.and_then(|past| scheduler.former_block(past, &scheduler.addresses(past), &prompt));
        let new = NewSequence {
            former,
            id,
            agent: if self.rng.usize(..2) == 0 { Some(self.rng.usize(..3) as u64) } else { None },
            max_new_tokens: self.rng.usize(..40),
            kept_windows: (0..self.rng.usize(..3)).map(|_| self.rng.usize(..40)).collect(),
            state_points: StatePoints {
                system_end: self.some_place(),
                return_point: self.some_place(),
                generation_start: self.some_place(),
            },
            answer_ends: self.some_place().into_iter().collect(),
            prompt_logits: if self.rng.usize(..10) == 0 { PromptLogits::All } else { PromptLogits::Last },
            prompt: checked(prompt.clone()),
        };
        match self.sim.scheduler.submit(new) {
            Ok(submitted) => {
                self.sim.submitted(id, prompt, submitted.max_new_tokens);
                self.alive.push(id);
            }
            Err(SubmitError::TooLong { n_tokens, limit }) => {
                assert!(n_tokens == prompt.len() && n_tokens >= limit);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn some_place(&mut self) -> Option<usize> {
        (self.rng.usize(..3) > 0).then(|| self.rng.usize(..40))
    }

    fn end(&mut self, id: SeqId) {
        self.alive.retain(|other| *other != id);
        if let Some(tokens) = self.sim.tokens.get(&id).cloned() {
            let place = self.n_ids as usize % 8;
            if self.prompts.len() <= place { self.prompts.push(tokens) } else { self.prompts[place] = tokens }
        }
        assert!(self.sim.finish(id));
        self.sim.export_completed();
    }

    /// One step; returns whether it had rows.
    fn step(&mut self) -> bool {
        let stored = std::mem::take(&mut self.sim.stored);
        let plan = self.sim.scheduler.plan(&|keys| keys.iter().map(|key| stored.contains_key(key)).collect());
        self.sim.stored = stored;
        self.check();
        for ended in &plan.ended {
            let EndReason::PoolExhausted(shortage) = ended.reason;
            assert!(shortage.needed > shortage.free, "{shortage:?}");
            assert!(
                self.sim.scheduler.pool().n_pinned > 0,
                "only pins can leave a lone sequence without room"
            );
            self.alive.retain(|id| *id != ended.seq);
            self.sim.tokens.remove(&ended.seq);
            self.happened.n_ended += 1;
        }
        for checkpoint in self.sim.scheduler.take_checkpoints() {
            self.happened.n_checkpoints += usize::from(checkpoint.is_there);
            self.happened.n_without_room += usize::from(!checkpoint.is_there);
            if checkpoint.is_there && self.rng.usize(..2) == 0 {
                self.sim.scheduler.hold_state(&checkpoint.hash);
                self.checkpoints.push(checkpoint.hash);
            }
        }
        for admitted in &plan.admitted {
            self.happened.n_without_state += usize::from(admitted.n_without_state > 0);
            let is_resumed = self.preempted.contains(&admitted.seq);
            self.happened.n_reused += usize::from(admitted.n_reused > 0);
            self.happened.n_restored += usize::from(admitted.n_restored > 0);
            self.happened.n_resumed_by_restore += usize::from(is_resumed && admitted.n_restored > 0);
        }
        self.preempted.extend(&plan.preempted);
        self.happened.n_preempted += plan.preempted.len();
        self.happened.n_copied += plan.step.copies.len();
        self.happened.n_stalled += plan.stalled.len();
        let has_state = |restore: &&Restore| restore.blocks.iter().any(|block| block.key.group.is_state());
        self.happened.n_states_restored += plan.restores.iter().filter(has_state).count();
        self.sim.restores.extend(plan.restores.iter().cloned());
        let sampled = self.sim.run(&plan.step);
        if self.rng.usize(..20) == 0
            && let Some(id) = self.rng.choice(self.alive.iter().copied())
        {
            self.end(id);
            self.check();
        }
        let at_limit = self.sim.commit(&plan.step, &sampled);
        self.check();
        for id in at_limit {
            self.end(id);
        }
        !plan.step.rows.is_empty()
    }

    fn some_keys(&mut self) -> Vec<BlockKey> {
        let Some(tokens) = self.prompts.get(self.rng.usize(..8)).cloned() else { return Vec::new() };
        let hashes = self.sim.scheduler.addresses(&tokens).whole;
        self.sim.scheduler.keys_at(hashes)
    }

    /// A checkpoint that is held is written, or need not be any more.
    fn settle_a_state(&mut self) {
        if self.checkpoints.is_empty() {
            return;
        }
        let hash = self.checkpoints.swap_remove(self.rng.usize(..self.checkpoints.len()));
        if self.rng.usize(..4) == 0 {
            self.sim.scheduler.release_state(&hash);
            self.sim.unsaved.retain(|(_, key)| !key.group.is_state() || key.hash != hash);
        } else if self.sim.scheduler.save_state(&hash) {
            self.happened.n_states_saved += 1;
            self.sim.export_completed();
        }
    }

    fn op(&mut self) {
        self.happened.n_ops += 1;
        match self.rng.usize(..100) {
            0..45 => {
                self.step();
            }
            45..61 => self.submit(),
            61..65 => self.settle_a_state(),
            65..68 => {
                if let Some(id) = self.rng.choice(self.alive.iter().copied()) {
                    self.end(id);
                }
            }
            68..88 => {
                for _ in 0..self.rng.usize(..16) {
                    self.sim.save_one();
                }
            }
            88..92 => {
                if !self.sim.restores.is_empty() {
                    let idx = self.rng.usize(..self.sim.restores.len());
                    let bad = self.rng.usize(..4);
                    let rng = &mut self.rng;
                    self.sim.finish_restore(idx, &mut |_| bad > 0 || rng.usize(..4) > 0);
                }
            }
            93 if self.is_constrained => {
                let keys = self.some_keys();
                self.sim.scheduler.pin(&keys);
                self.pinned.extend(keys);
            }
            94 => {
                let keys = std::mem::take(&mut self.pinned);
                self.sim.scheduler.unpin(&keys);
            }
            95 => {
                let keys = self.some_keys();
                self.sim.scheduler.evict(&keys);
            }
            96 => {
                let budget = self.rng.usize(..30);
                self.sim.scheduler.set_token_budget(budget);
            }
            97 if self.is_constrained => {
                let mode = if self.rng.usize(..8) > 0 {
                    self.sim.store
                } else {
                    self.rng.choice(MODES.iter().copied()).unwrap()
                };
                if self.sim.store != mode {
                    self.sim.store = mode;
                    self.sim.scheduler.set_store(mode);
                    self.sim.unsaved.clear();
                    self.sim.export_completed();
                }
            }
            92 => {
                if let Some(id) = self.rng.choice(self.alive.iter().copied()) {
                    self.alive.retain(|other| *other != id);
                    self.sim.tokens.remove(&id);
                    let gone = self.sim.scheduler.discard(id);
                    self.sim.unsaved.retain(|(_, key)| !gone.contains(key));
                    self.happened.n_discarded += gone.len();
                }
            }
            98 => {
                // The store loses some records.
                let n = self.rng.usize(..3);
                let lost: Vec<BlockKey> = self.sim.stored.keys().take(n).copied().collect();
                lost.iter().for_each(|key| drop(self.sim.stored.remove(key)));
            }
            _ => {
                if let Some(id) = self.rng.choice(self.alive.iter().copied()) {
                    let state = self.sim.scheduler.state(id);
                    let shortage = self.sim.scheduler.shortage(id);
                    assert!(shortage.is_none() || state == Some(SeqState::Waiting));
                }
            }
        }
        self.check();
    }

    /// With nothing standing in the way any more, everybody comes to an end.
    fn wind_down(&mut self) {
        let keys = std::mem::take(&mut self.pinned);
        self.sim.scheduler.unpin(&keys);
        let mut n_idle = 0;
        while !self.alive.is_empty() {
            while !self.checkpoints.is_empty() {
                self.settle_a_state();
            }
            while self.sim.save_one() {}
            while !self.sim.restores.is_empty() {
                self.sim.finish_restore(0, &mut |_| true);
            }
            n_idle = if self.step() { 0 } else { n_idle + 1 };
            let states: Vec<_> = self.alive.iter().map(|id| (*id, self.sim.scheduler.state(*id))).collect();
            assert!(n_idle < 4, "hang: {states:?} {:?}", self.sim.scheduler.pool());
            // Nobody samples for a sequence whose commit was cut off, so nobody but the caller can end it.
            for id in self.alive.clone() {
                if self.sim.scheduler.state(id) == Some(SeqState::AtLimit) {
                    self.end(id);
                }
            }
        }
        assert_eq!(self.sim.scheduler.pool().n_held, 0);
        self.check();
    }
}

fn hold_for(seeds: std::ops::Range<u64>, n_ops: usize) {
    let mut all = Happened::default();
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..n_ops {
                run.op();
            }
            run.wind_down();
            run.happened.n_evicted = run.sim.scheduler.pool().n_evictions;
            run.happened
        });
        let Ok(run) = result else { panic!("seed {seed}") };
        all.n_ops += run.n_ops;
        all.n_reused += run.n_reused;
        all.n_restored += run.n_restored;
        all.n_copied += run.n_copied;
        all.n_discarded += run.n_discarded;
        all.n_preempted += run.n_preempted;
        all.n_resumed_by_restore += run.n_resumed_by_restore;
        all.n_stalled += run.n_stalled;
        all.n_ended += run.n_ended;
        all.n_evicted += run.n_evicted;
        all.n_checkpoints += run.n_checkpoints;
        all.n_without_room += run.n_without_room;
        all.n_without_state += run.n_without_state;
        all.n_states_saved += run.n_states_saved;
        all.n_states_restored += run.n_states_restored;
    }
    println!("{all:?}");
    assert!(all.n_ops >= 500_000);
    let often = [all.n_reused, all.n_restored, all.n_copied, all.n_preempted, all.n_stalled];
    assert!(often.iter().all(|&n| n >= 1000) && all.n_evicted >= 1000, "{all:?}");
    let of_states = [all.n_checkpoints, all.n_without_room, all.n_without_state, all.n_states_saved];
    assert!(of_states.iter().all(|&n| n >= 1000) && all.n_states_restored >= 100, "{all:?}");
    assert!(all.n_resumed_by_restore >= 10 && all.n_ended >= 10 && all.n_discarded >= 1000, "{all:?}");
}

#[test]
fn invariants_hold_over_half_a_million_random_operations() {
    hold_for(0..500, 1000);
}

#[test]
fn invariants_hold_over_half_a_million_more_in_longer_runs() {
    hold_for(10_000..10_050, 10_000);
}
