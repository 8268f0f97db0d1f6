//! Golden timelines: a script of a few lines in, what the scheduler did out.
//!
//! Each file in `timelines/` is a script, a line of dashes, and the expected timeline. After a change of behaviour,
//! write them anew with `cargo test -p scheduler --features bless timeline` and read the diff.
//!
//! A prompt is written as pieces of named texts, `sys:8 a:3` for the first 8 tokens of `sys`, then 3 of `a`;
//! `a+` stands for all tokens of sequence `a` so far. In the timeline `a[0..8]` is a prefill chunk of those
//! positions, `a@8` a decode.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::sim::{Sim, checked, layout_with_state};
use crate::{
    Checkpoint, EndReason, GroupId, NewSequence, Plan, PromptLogits, Row, Scheduler, SchedulerConfig, SeqId,
    SeqState, StatePoints, StoreMode, TokenId, Wanted,
};

/// What a script has set up and done so far.
struct Stage {
    sim: Sim,
    ids: BTreeMap<String, SeqId>,
    /// All tokens of every sequence, those of gone ones too.
    texts: BTreeMap<String, Vec<TokenId>>,
    n_steps: usize,
    out: String,
}

fn value<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn number(words: &[&str], key: &str, default: usize) -> usize {
    value(words, key).map_or(default, |n| n.parse().unwrap())
}

/// The first `n` tokens of a named text.
fn text(name: &str, n: usize) -> Vec<TokenId> {
    let base = name.bytes().fold(7_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b))) % 1000;
    (0..n as u32).map(|i| base * 1000 + i).collect()
}

impl Stage {
    /// The first line of a script: `pool blocks=12 tokens=4 groups=full,6 rows=4 budget=16 chunk=8 …`.
    fn new(words: &[&str]) -> Stage {
        let groups: Vec<Option<usize>> =
            value(words, "groups").unwrap_or("full").split(',').map(|g| g.parse().ok()).collect();
        let layout = layout_with_state(number(words, "tokens", 4), &groups, number(words, "state", 0));
        let n_blocks = number(words, "blocks", 16);
        let store = if value(words, "store") == Some("on") { StoreMode::On } else { StoreMode::Off };
        let config = SchedulerConfig {
            step_token_budget: number(words, "budget", 16),
            max_rows: number(words, "rows", 8),
            max_chunk: number(words, "chunk", 16),
            max_passes: number(words, "passes", 16),
            window_kept_every: number(words, "every", 1024),
            store,
            ..SchedulerConfig::new(number(words, "context", 1000), [1; 32])
        };
        let scheduler = Scheduler::new(&layout, n_blocks, config);
        let mut sim = Sim::new(scheduler, &layout, n_blocks, store);
        sim.n_vocab = 97;
        Stage { sim, ids: BTreeMap::new(), texts: BTreeMap::new(), n_steps: 0, out: String::new() }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.out, "{line}").unwrap();
    }

    fn name(&self, id: SeqId) -> String {
        self.ids.iter().find(|(_, other)| **other == id).map(|(name, _)| name.clone()).unwrap()
    }

    fn names(&self, ids: &[SeqId]) -> String {
        ids.iter().map(|&id| self.name(id)).collect::<Vec<_>>().join(" ")
    }

    fn prompt(&self, words: &[&str]) -> Vec<TokenId> {
        let mut prompt = Vec::new();
        for word in words {
            if let Some((name, n)) = word.split_once(':') {
                prompt.extend(text(name, n.parse().unwrap()));
            } else if let Some(name) = word.strip_suffix('+') {
                prompt.extend(&self.texts[name]);
            }
        }
        prompt
    }

    fn new_id(&mut self, name: &str) -> SeqId {
        let id = SeqId(self.ids.len() as u64);
        assert!(self.ids.insert(name.to_owned(), id).is_none(), "{name} is new");
        id
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !matches!(words[0], "step" | "run") {
            self.say(&format!("> {line}"));
        }
        match words[..] {
            ["submit", name, ..] => self.submit(name, &words[2..]),
            ["step"] => _ = self.step(),
            ["step", n] => (0..n.parse().unwrap()).for_each(|_: usize| _ = self.step()),
            ["run"] => while self.step() {},
            ["finish" | "cancel", name] => {
                let done = self.sim.scheduler.finish(self.ids[name]);
                self.sim.export_completed();
                if !done {
                    self.say("       gone already");
                }
                self.tell_checkpoints();
            }
            ["discard", name] => {
                let n = self.sim.scheduler.discard(self.ids[name]).len();
                self.say(&format!("       {n} blocks forgotten"));
            }
            ["save"] => {
                let n = self.sim.unsaved.len();
                while self.sim.save_one() {}
                self.say(&format!("       saved {n}"));
            }
            ["restored"] => {
                while !self.sim.restores.is_empty() {
                    self.sim.finish_restore(0, &mut |_| true);
                }
            }
            ["lost", n] => {
                let mut left: usize = n.parse().unwrap();
                while !self.sim.restores.is_empty() {
                    self.sim.finish_restore(0, &mut |_| {
                        let is_good = left == 0;
                        left = left.saturating_sub(1);
                        is_good
                    });
                }
            }
            ["lost-piece"] => {
                while !self.sim.restores.is_empty() {
                    let mut lost = Vec::new();
                    self.sim.finish_restore(0, &mut |wanted| {
                        let is_lost = wanted.key.group == GroupId::state(1);
                        lost.extend(is_lost.then_some(wanted.key));
                        !is_lost
                    });
                    // One fate: none of it is found again.
                    self.sim.stored.retain(|key, _| {
                        !key.group.is_state() || lost.iter().all(|lost| lost.hash != key.hash)
                    });
                }
            }
            ["store", "off"] => self.sim.scheduler.set_store(StoreMode::Off),
            ["pin", name] => {
                let hashes = self.sim.scheduler.addresses(&self.texts[name]).whole;
                let keys = self.sim.scheduler.keys_at(hashes);
                let n = self.sim.scheduler.pin(&keys).len();
                self.say(&format!("       pinned {n}"));
            }
            ["hold" | "write" | "release" | "lower", name, n] => {
                let addresses = self.sim.scheduler.addresses(&self.texts[name][..n.parse().unwrap()]);
                let hash = *addresses.all().last().unwrap();
                let is_there = match words[0] {
                    "hold" => self.sim.scheduler.hold_state(&hash),
                    "write" => self.sim.scheduler.save_state(&hash),
                    "lower" => {
                        self.sim.scheduler.lower_state(&hash);
                        true
                    }
                    _ => {
                        self.sim.scheduler.release_state(&hash);
                        true
                    }
                };
                self.sim.export_completed();
                if !is_there {
                    self.say("       there is none");
                }
            }
            ["forget", name] => {
                let hashes: Vec<_> = self.sim.scheduler.addresses(&self.texts[name]).all().copied().collect();
                let keys = self.sim.scheduler.keys_at(hashes);
                let n = self.sim.scheduler.evict(&keys);
                self.say(&format!("       {n} gone from memory"));
            }
            ["forget-all"] => loop {
                let keys: Vec<_> = self.sim.scheduler.cache.pool.keys().copied().collect();
                if self.sim.scheduler.evict(&keys) == 0 {
                    break;
                }
            },
            ["budget", n] => self.sim.scheduler.set_token_budget(n.parse().unwrap()),
            ["state", name] => {
                let state = self.sim.scheduler.state(self.ids[name]);
                self.say(&format!("       {name}: {state:?}"));
            }
            _ => panic!("no such command: {line}"),
        }
        self.sim.scheduler.check_integrity().unwrap();
    }

    fn submit(&mut self, name: &str, words: &[&str]) {
        let prompt = self.prompt(words);
        let id = self.new_id(name);
        let kept_windows = value(words, "kept").map(|c| c.split(',').map(|c| c.parse().unwrap()).collect());
        let new = NewSequence {
            id,
            agent: value(words, "agent").map(|agent| agent.parse().unwrap()),
            prompt: checked(prompt.clone()),
            max_new_tokens: number(words, "new", 1),
            kept_windows: kept_windows.unwrap_or_default(),
            state_points: StatePoints {
                system_end: value(words, "system").map(|at| at.parse().unwrap()),
                return_point: value(words, "return").map(|at| at.parse().unwrap()),
                generation_start: value(words, "start").map(|at| at.parse().unwrap()),
            },
            answer_ends: value(words, "ends")
                .map(|c| c.split(',').map(|c| c.parse().unwrap()).collect())
                .unwrap_or_default(),
            prompt_logits: if words.contains(&"logits") { PromptLogits::All } else { PromptLogits::Last },
            former: None,
        };
        let wanted = new.max_new_tokens;
        match self.sim.scheduler.submit(new) {
            Ok(submitted) => {
                self.sim.submitted(id, prompt.clone(), submitted.max_new_tokens);
                self.texts.insert(name.to_owned(), prompt);
                if submitted.max_new_tokens < wanted {
                    self.say(&format!("       {name} may generate {}", submitted.max_new_tokens));
                }
            }
            Err(error) => self.say(&format!("       {name} refused: {error}")),
        }
    }

    /// One turn of the loop; false when there was nothing to run.
    fn step(&mut self) -> bool {
        let stored = std::mem::take(&mut self.sim.stored);
        let plan = self.sim.scheduler.plan(&|keys| keys.iter().map(|key| stored.contains_key(key)).collect());
        self.sim.stored = stored;
        self.tell(&plan);
        self.sim.restores.extend(plan.restores.iter().cloned());
        let sampled = self.sim.run(&plan.step);
        let at_limit = self.sim.commit(&plan.step, &sampled);
        self.tell_checkpoints();
        for (id, token) in sampled {
            let name = self.name(id);
            self.texts.get_mut(&name).unwrap().push(token);
        }
        for id in at_limit {
            self.sim.finish(id);
            self.sim.export_completed();
            let line = format!("       done {}", self.name(id));
            self.say(&line);
            self.tell_checkpoints();
        }
        !plan.step.rows.is_empty()
    }

    fn tell(&mut self, plan: &Plan) {
        for ended in &plan.ended {
            let EndReason::PoolExhausted(s) = ended.reason;
            let name = self.name(ended.seq);
            self.say(&format!("       end {name}: needs {}, free {} of {}", s.needed, s.free, s.total));
        }
        if !plan.preempted.is_empty() {
            let line = format!("       preempt {}", self.names(&plan.preempted));
            self.say(&line);
        }
        for admitted in &plan.admitted {
            let mut line = format!("       admit {}: reuses {}", self.name(admitted.seq), admitted.n_reused);
            if admitted.n_restored > 0 {
                write!(line, " ({} restored)", admitted.n_restored).unwrap();
            }
            write!(line, ", computes {}", admitted.n_to_compute).unwrap();
            if admitted.n_without_state > 0 {
                write!(line, " ({} have no state)", admitted.n_without_state).unwrap();
            }
            self.say(&line);
        }
        for restore in &plan.restores {
            let line = format!("       restore {}: {} blocks", self.name(restore.seq), restore.blocks.len());
            self.say(&line);
        }
        if !plan.stalled.is_empty() {
            let line = format!("       stalled {}", self.names(&plan.stalled));
            self.say(&line);
        }
        if plan.step.rows.is_empty() {
            return self.say("       nothing to run");
        }
        self.n_steps += 1;
        let mut rows: Vec<String> = plan.step.rows.iter().map(|row| self.row(row)).collect();
        if !plan.step.copies.is_empty() {
            rows.insert(0, format!("copy {}", plan.step.copies.len()));
        }
        let pool = self.sim.scheduler.pool();
        let rows = rows.join("  ");
        let (held, cached, free) = (pool.n_held, pool.n_cached, pool.n_free);
        let states = if pool.n_live_state > 0 {
            format!("  live {}  checkpoints {}", pool.n_live_state, pool.n_checkpoints)
        } else {
            String::new()
        };
        let n_steps = self.n_steps;
        self.say(&format!("{n_steps:4}   {rows:44} held {held:2}  cached {cached:2}  free {free:2}{states}"));
    }

    /// What became of the places at which a state was to be kept.
    fn tell_checkpoints(&mut self) {
        for Checkpoint { seq, class, n_tokens, is_there, .. } in self.sim.scheduler.take_checkpoints() {
            let fate = if is_there { "at" } else { "no room at" };
            let line = format!("       {} {class:?} {fate} {n_tokens}", self.name(seq));
            self.say(&line);
        }
    }

    fn row(&self, row: &Row) -> String {
        let (name, start, end) = (self.name(row.seq), row.start, row.end());
        let is_decode = matches!(self.sim.scheduler.state(row.seq), Some(SeqState::Decoding { .. }));
        let logits = if row.wanted == Wanted::AllLogits { " all logits" } else { "" };
        let saves: Vec<String> =
            row.state.saves.iter().map(|save| format!(" saves {}", start + save.n_tokens)).collect();
        let saves = saves.concat();
        if is_decode {
            format!("{name}@{start}{saves}")
        } else {
            format!("{name}[{start}..{end}]{logits}{saves}")
        }
    }
}

fn timeline_of(script: &str) -> String {
    let mut lines = script.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let setup: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let mut stage = Stage::new(&setup);
    lines.for_each(|line| stage.command(line));
    stage.out
}

fn check(name: &str) {
    let path = format!("{}/src/tests/timelines/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read_to_string(&path).unwrap();
    let (script, expected) = file.split_once("----\n").unwrap();
    let actual = timeline_of(script);
    if cfg!(feature = "bless") {
        std::fs::write(&path, format!("{script}----\n{actual}")).unwrap();
        return;
    }
    assert!(actual == expected, "{name}: expected\n{expected}\ngot\n{actual}");
}

macro_rules! timelines {
    ($($name:ident)*) => { $(#[test] fn $name() { check(stringify!($name)); })* };
}

timelines! {
    a_request_is_admitted_while_another_decodes
    a_long_prompt_goes_in_chunks_behind_the_decodes
    a_big_request_is_not_starved_by_small_ones
    a_long_prompt_does_not_hold_up_short_ones_nor_they_it
    only_so_many_that_lack_room_are_looked_past
    what_the_oldest_leaves_goes_to_who_is_nearest_to_its_first_token
    requests_of_one_agent_run_in_order
    an_agent_s_later_request_waits_also_while_the_earlier_one_lacks_room_or_restores
    the_youngest_is_preempted_and_resumes_where_it_was
    nobody_passes_one_that_was_preempted
    of_several_the_youngest_is_preempted
    the_youngest_gives_way_also_when_it_is_the_one_that_lacks
    cancelled_in_every_phase
    what_cannot_be_trusted_is_discarded
    two_agents_share_a_prefix
    agents_that_come_together_compute_their_shared_prefix_once
    a_tail_is_reused_to_the_token
    windows_drop_what_they_have_left_behind
    an_edit_goes_back_to_a_kept_window
    a_sequence_alone_ends_with_a_reason_when_pins_leave_no_room
    what_cannot_ever_fit_is_refused
    unsaved_blocks_hold_up_growth_until_they_are_saved
    blocks_come_back_from_the_store_while_others_run
    who_restores_takes_a_row_too
    a_restore_of_less_than_a_block_is_not_waited_for
    a_corrupt_block_costs_time_only
    prompt_logits_compute_the_whole_prompt
    a_state_is_kept_where_the_next_turn_goes_back_to
    agents_that_come_together_compute_a_shared_state_once
    a_checkpoint_comes_back_from_the_store
    a_piece_that_is_lost_takes_its_checkpoint_with_it
    checkpoints_are_given_up_by_their_class
    a_state_that_gives_way_goes_on_where_it_was
    a_held_state_is_written_before_it_goes
    what_a_newer_checkpoint_replaces_goes_first
    an_answer_s_end_is_found_behind_which_somebody_went_on
    no_slots_of_a_foreign_block_are_taken_without_a_state
}
