//! Random operations on blocks, states and agents, with restarts, power cuts and damage between them.

use std::collections::HashSet;

use address::BlockKey;

use super::rig::{Rig, agent, config, key, open, record, state_keys};
use super::sim_disk::{LEFTOVERS, SimDisk};
use crate::agent::OfModels;

const CHAINS: usize = 4;
const N_OPS: usize = 160;

/// Xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// What is asked of the store.
#[derive(Clone, Copy, PartialEq)]
enum Promise {
    /// All that was saved, and not deleted or buried, is there.
    Everything,
    /// What is there is right, and within the cap.
    Right,
}

/// A conversation: the number of its chain, which no other has, its blocks, and at which of them states were saved.
#[derive(Clone)]
struct Chain {
    number: u32,
    n_blocks: u32,
    states: HashSet<u32>,
    buried: HashSet<u32>,
}

struct Trial {
    dice: Dice,
    disk: SimDisk,
    max_bytes: u64,
    promise: Promise,
    rig: Rig,
    chains: Vec<Chain>,
    deleted: Vec<Chain>,
    n_chains: u32,
    saved: HashSet<BlockKey>,
}

impl Trial {
    fn new(seed: u64, max_bytes: u64, promise: Promise) -> Trial {
        let disk = SimDisk::default();
        let rig = open(&disk, &config(max_bytes)).unwrap();
        let mut trial = Trial {
            dice: Dice(seed * 2 + 1),
            disk,
            max_bytes,
            promise,
            rig,
            chains: Vec::new(),
            deleted: Vec::new(),
            n_chains: 0,
            saved: HashSet::new(),
        };
        (0..CHAINS).for_each(|_| trial.begin_chain());
        trial
    }

    fn begin_chain(&mut self) {
        let chain =
            Chain { number: self.n_chains, n_blocks: 0, states: HashSet::new(), buried: HashSet::new() };
        self.chains.push(chain);
        self.n_chains += 1;
    }

    /// One operation, and what it was.
    fn act(&mut self) -> &'static str {
        let which = self.dice.roll(CHAINS);
        let chain = self.chains[which].clone();
        let number = chain.number;
        let op = self.dice.roll(16);
        let name = match op {
            0..=4 => {
                self.rig.save(record(number, chain.n_blocks));
                self.chains[which].n_blocks += 1;
                "save a block"
            }
            5..=7 if chain.n_blocks > 0 => {
                let idx = self.dice.roll(chain.n_blocks as usize) as u32;
                self.rig.save_state(number, idx);
                self.chains[which].states.insert(idx);
                self.chains[which].buried.remove(&idx);
                "save a state"
            }
            8 | 9 if !chain.states.is_empty() => {
                let mut states: Vec<u32> = chain.states.into_iter().collect();
                states.sort_unstable();
                let idx = states[self.dice.roll(states.len())];
                self.note_saved();
                self.rig.inner.bury(&state_keys(number, idx)[1..2]);
                self.chains[which].states.remove(&idx);
                self.chains[which].buried.insert(idx);
                self.unsave(number, idx);
                "bury a state"
            }
            10 if chain.n_blocks > 0 => {
                self.rig.inner.put_agent(agent(&format!("agent {number}"), number, chain.n_blocks));
                "put an agent"
            }
            11 => {
                self.rig.inner.delete_agent(&format!("agent {number}"), OfModels::All, Box::new(|| ()));
                let chain = self.chains.remove(which);
                self.deleted.push(chain);
                self.begin_chain();
                "delete an agent"
            }
            12 => {
                let segments: Vec<u64> = {
                    let state = self.rig.inner.shared.state();
                    state.segments.keys().copied().filter(|id| !self.rig.writer.is_active(*id)).collect()
                };
                if !segments.is_empty() {
                    let id = segments[self.dice.roll(segments.len())];
                    // Without room for the copies nothing happens.
                    let _ = self.rig.writer.compact(id);
                }
                "compact"
            }
            13 => {
                self.restart();
                "restart"
            }
            _ => {
                let n = self.dice.roll(12);
                (0..n).any(|_| !self.rig.writer.work());
                "work"
            }
        };
        // The queue is never full here.
        if self.dice.roll(8) == 0 || self.rig.inner.stats().queued_bytes > 32 << 10 {
            self.rig.flush();
        }
        self.note_saved();
        name
    }

    fn note_saved(&mut self) {
        self.rig.inner.shared.announce();
        self.saved.extend(self.rig.saved.lock().unwrap().drain());
    }

    fn unsave(&mut self, chain: u32, idx: u32) {
        let gone = state_keys(chain, idx);
        self.saved.retain(|key| !gone.contains(key));
    }

    /// End in one way or another, and begin again.
    fn restart(&mut self) {
        self.note_saved();
        let is_closed = self.dice.roll(2) == 0;
        let disk = if is_closed {
            self.rig.flush();
            self.note_saved();
            self.rig.writer.close();
            SimDisk::with_files(&self.disk.files())
        } else {
            // A burial is no promise before the next sync.
            self.chains.iter_mut().for_each(|chain| chain.buried.clear());
            self.disk.after_power_cut(LEFTOVERS[self.dice.roll(LEFTOVERS.len())])
        };
        assert!(self.disk.most_bytes() <= self.max_bytes);
        let disk = if self.promise == Promise::Right { self.damaged(&disk) } else { disk };
        self.rig = open(&disk, &config(self.max_bytes)).unwrap();
        self.disk = disk;
        if is_closed && self.promise == Promise::Everything {
            for chain in &self.chains {
                assert!(
                    chain.buried.iter().all(|idx| !self.rig.has_state(chain.number, *idx)),
                    "what is buried stays so"
                );
            }
        }
    }

    /// A byte of a file is not what it was.
    fn damaged(&mut self, disk: &SimDisk) -> SimDisk {
        let mut files = disk.files();
        let which = self.dice.roll(files.len().max(1));
        if let Some(bytes) = files.values_mut().nth(which).filter(|bytes| !bytes.is_empty()) {
            let at = self.dice.roll(bytes.len());
            bytes[at] ^= 0x10;
        }
        SimDisk::with_files(&files)
    }

    fn check(&self, what: &str) {
        for chain in self.chains.iter().chain(&self.deleted) {
            let is_kept = self.chains.iter().any(|other| other.number == chain.number);
            for idx in 0..chain.n_blocks {
                let key = key(chain.number, idx);
                let found = self.rig.restore(key);
                let must = is_kept && self.promise == Promise::Everything && self.saved.contains(&key);
                match found {
                    Ok(found) => assert_eq!(found, record(chain.number, idx), "{what}"),
                    Err(why) => assert!(!must, "{what}: block {}/{idx} is {}", chain.number, why.name()),
                }
                let is_saved = state_keys(chain.number, idx).iter().all(|key| self.saved.contains(key));
                let must = is_kept && self.promise == Promise::Everything && is_saved;
                let has = self.rig.has_state(chain.number, idx);
                assert!(has || !must, "{what}: state {}/{idx}", chain.number);
            }
        }
        let state = self.rig.inner.shared.state();
        let live: u64 = state.segments.values().map(|segment| segment.live_bytes).sum();
        assert!(state.index.checkpoint_bytes() <= live, "{what}");
        assert!(state.used_bytes() <= self.max_bytes, "{what}");
    }
}

fn run(seeds: std::ops::Range<u64>, max_bytes: u64, promise: Promise) {
    for seed in seeds {
        let mut trial = Trial::new(seed, max_bytes, promise);
        for n in 0..N_OPS {
            let op = trial.act();
            if n % 8 == 7 || op == "restart" || op == "compact" {
                trial.check(&format!("seed {seed}, operation {n}, {op}"));
            }
        }
        assert!(trial.disk.most_bytes() <= max_bytes, "seed {seed}");
    }
}

#[test]
fn with_room_nothing_that_was_saved_is_lost_and_no_state_is_there_in_part() {
    run(0..40, 4 << 20, Promise::Everything);
}

#[test]
fn without_room_and_with_damage_nothing_is_wrong_and_no_state_is_there_in_part() {
    run(1000..1040, 64 << 10, Promise::Right);
}
