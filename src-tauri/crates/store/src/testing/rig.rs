//! A store without threads: a test does the work of the writer and the reader itself, step by step.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use address::{BlockKey, ChainHash, GroupId};

use super::sim_disk::SimDisk;
use crate::agent::{AgentManifest, Pin, TokenSpan};
use crate::block_store::{FlushReport, MissReason, StoreEvent, Wanted};
use crate::config::StoreConfig;
use crate::disk::Disk;
use crate::idle_buffers::BlockBytes;
use crate::open::OpenError;
use crate::reader::Reader;
use crate::record::{BlockRecord, SaveReason};
use crate::segment::Lane;
use crate::store::{Inner, open_on};
use crate::writer::Writer;

pub(crate) const MODEL: [u8; 32] = [7; 32];
pub(crate) const BLOCK_BYTES: usize = 600;
/// Work that one call may take; a store that never comes to rest is a defect.
const MAX_WORK: usize = 4000;

pub(crate) struct Rig {
    pub(crate) inner: Inner,
    pub(crate) writer: Writer,
    pub(crate) reader: Mutex<Reader>,
    /// What the store said is durable.
    pub(crate) saved: Arc<Mutex<HashSet<BlockKey>>>,
    pub(crate) events: Arc<Mutex<Vec<StoreEvent>>>,
}

pub(crate) fn config(max_bytes: u64) -> StoreConfig {
    StoreConfig {
        free_space_floor: 0,
        queue_bytes: 64 << 10,
        segment_bytes: 8 << 10,
        commit_after: Duration::from_secs(3600),
        retry_after: Duration::ZERO,
        ..StoreConfig::new(PathBuf::from("/store"), max_bytes)
    }
}

pub(crate) fn open(disk: &SimDisk, config: &StoreConfig) -> Result<Rig, OpenError> {
    open_any(Arc::new(disk.clone()), config)
}

pub(crate) fn open_any(disk: Arc<dyn Disk>, config: &StoreConfig) -> Result<Rig, OpenError> {
    let (inner, writer) = open_on(disk, config.clone())?;
    let saved: Arc<Mutex<HashSet<BlockKey>>> = Arc::default();
    let events: Arc<Mutex<Vec<StoreEvent>>> = Arc::default();
    let (told, heard) = (Arc::clone(&saved), Arc::clone(&events));
    inner.shared.add_listener(Box::new(move |event| {
        if let StoreEvent::Saved(keys) = &event {
            told.lock().unwrap().extend(keys);
        }
        heard.lock().unwrap().push(event);
    }));
    Ok(Rig { inner, writer, reader: Mutex::default(), saved, events })
}

/// Address of block `idx` of chain `chain`.
pub(crate) fn hash(chain: u32, idx: u32) -> ChainHash {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&chain.to_le_bytes());
    bytes[4..].copy_from_slice(&idx.to_le_bytes());
    ChainHash(blake3::hash(&bytes).into())
}

/// Chains with odd numbers are of a group that attends to a window.
pub(crate) fn key(chain: u32, idx: u32) -> BlockKey {
    let group = if chain.is_multiple_of(2) { GroupId::full(0) } else { GroupId::window(1) };
    BlockKey { hash: hash(chain, idx), group }
}

/// Block `idx` of chain `chain`; what it holds follows from its address.
pub(crate) fn record(chain: u32, idx: u32) -> BlockRecord {
    let first = chain * 1_000_000 + idx * 32 + 1;
    BlockRecord {
        key: key(chain, idx),
        parent: if idx == 0 { ChainHash([9; 32]) } else { hash(chain, idx - 1) },
        fingerprint: MODEL,
        tokens: (first..first + 32).collect(),
        reason: SaveReason::BlockFull,
        bytes: hash(chain, idx + 500).0.iter().copied().cycle().take(BLOCK_BYTES).collect::<Vec<u8>>().into(),
    }
}

/// Pieces of a state, the last of them shorter.
pub(crate) const N_PIECES: u16 = 3;

/// Addresses of the pieces of the state after block `idx` of chain `chain`.
pub(crate) fn state_keys(chain: u32, idx: u32) -> Vec<BlockKey> {
    let key = |piece| BlockKey { hash: hash(chain, idx), group: GroupId::state(piece) };
    (0..usize::from(N_PIECES)).map(key).collect()
}

/// The pieces of the state after block `idx` of chain `chain`; what they hold follows from their address.
pub(crate) fn state(chain: u32, idx: u32) -> Vec<BlockRecord> {
    let piece = |key: BlockKey| {
        let number = key.group.idx();
        let n_bytes = if number + 1 == usize::from(N_PIECES) { 100 } else { BLOCK_BYTES };
        let content = hash(chain, idx + 1000 * (number as u32 + 1)).0;
        BlockRecord {
            key,
            reason: SaveReason::Checkpoint { n_pieces: N_PIECES },
            bytes: content.iter().copied().cycle().take(n_bytes).collect::<Vec<u8>>().into(),
            ..record(chain, idx)
        }
    };
    state_keys(chain, idx).into_iter().map(piece).collect()
}

pub(crate) fn agent(name: &str, chain: u32, n_blocks: u32) -> AgentManifest {
    AgentManifest {
        name: name.to_owned(),
        fingerprint: MODEL,
        block_tokens: 32,
        tokens: (0..n_blocks).flat_map(|idx| record(chain, idx).tokens).collect(),
        generated: vec![TokenSpan { start: 3, n_tokens: 2 }],
        blocks: (0..n_blocks).map(|idx| hash(chain, idx)).collect(),
        tail: None,
        last_used: 0,
        pin: Pin::Unpinned,
        former: Vec::new(),
    }
}

impl Rig {
    /// Let the writer work until it rests.
    pub(crate) fn pump(&mut self) {
        for _ in 0..MAX_WORK {
            if !self.writer.work() {
                return;
            }
        }
        panic!("the writer does not come to rest");
    }

    /// Complete the segments that grow.
    pub(crate) fn seal(&mut self) {
        Lane::ALL.into_iter().for_each(|lane| self.writer.seal(lane).unwrap());
    }

    /// Let the writer work for so long; for disks that never answer.
    pub(crate) fn pump_a_little(&mut self) {
        (0..40).any(|_| !self.writer.work());
    }

    pub(crate) fn save(&mut self, record: BlockRecord) {
        assert!(self.inner.save(record).is_ok(), "the queue is full");
    }

    pub(crate) fn save_state(&mut self, chain: u32, idx: u32) {
        state(chain, idx).into_iter().for_each(|piece| self.save(piece));
    }

    /// Whether the state after a block can be had. All of it can, and is right, or nothing of it.
    pub(crate) fn has_state(&self, chain: u32, idx: u32) -> bool {
        let wanted = |key| Wanted { key, fingerprint: MODEL, room: None };
        let found = self.restore_all(state_keys(chain, idx).into_iter().map(wanted).collect());
        // What is found out to be damaged may come after what is not.
        let is_there = found.iter().all(Result::is_ok);
        let right = state(chain, idx);
        for (found, right) in found.into_iter().zip(&right) {
            assert!(found.as_ref().is_ok_and(|found| found == right) || found.is_err(), "{chain}/{idx}");
        }
        let places = {
            let state = self.inner.shared.state();
            state_keys(chain, idx).iter().filter(|key| state.index.find(key).is_some()).count()
        };
        assert_eq!(places, if is_there { right.len() } else { 0 }, "{chain}/{idx}: a part is none");
        is_there
    }

    /// Whether all of a state was said to be durable.
    pub(crate) fn is_state_saved(&self, chain: u32, idx: u32) -> bool {
        let saved = self.saved.lock().unwrap();
        state_keys(chain, idx).iter().all(|key| saved.contains(key))
    }

    /// Ask for a flush; its report once it is over.
    pub(crate) fn ask_flush(&mut self) -> Arc<Mutex<Option<FlushReport>>> {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        self.inner.flush(Box::new(move |report| *slot.lock().unwrap() = Some(report)));
        answer
    }

    pub(crate) fn flush(&mut self) -> FlushReport {
        let answer = self.ask_flush();
        self.pump();
        let report = answer.lock().unwrap().take();
        report.expect("a flush ends")
    }

    pub(crate) fn restore(&self, key: BlockKey) -> Result<BlockRecord, MissReason> {
        self.restore_to(key, None)
    }

    pub(crate) fn restore_to(
        &self,
        key: BlockKey,
        room: Option<BlockBytes>,
    ) -> Result<BlockRecord, MissReason> {
        self.restore_all(vec![Wanted { key, fingerprint: MODEL, room }]).pop().unwrap()
    }

    /// One piece of several blocks.
    pub(crate) fn restore_all(&self, wanted: Vec<Wanted>) -> Vec<Result<BlockRecord, MissReason>> {
        let answer = Arc::new(Mutex::new(Vec::new()));
        let slot = Arc::clone(&answer);
        self.inner.restore(wanted, Box::new(move |found| *slot.lock().unwrap() = found));
        let read = self.inner.shared.state().reads.pop_front().unwrap();
        self.reader.lock().unwrap().serve(&self.inner.shared, read);
        std::mem::take(&mut *answer.lock().unwrap())
    }

    pub(crate) fn saved(&self) -> HashSet<BlockKey> {
        self.saved.lock().unwrap().clone()
    }

    /// Tokens of an agent's leading blocks that are durable and in its manifest on disk.
    pub(crate) fn n_saved(&self, name: &str) -> usize {
        let Some(agent) = self.inner.agents_where(|agent| agent.name == name).pop() else { return 0 };
        let Some(written) = self.inner.written_agent(name, &agent.fingerprint) else { return 0 };
        let durable = self.inner.durable_at(&agent.blocks);
        let blocks: Vec<_> = durable.iter().filter(|block| !block.key.group.is_state()).collect();
        let is_durable = |hash: &&ChainHash| blocks.iter().any(|block| block.key.hash == **hash);
        let is_saved = |hash: &&ChainHash| written.blocks.contains(hash) && is_durable(hash);
        agent.blocks.iter().take_while(is_saved).count() * agent.block_tokens as usize
    }

    pub(crate) fn is_there(&self, chain: u32, idx: u32) -> bool {
        self.inner.shared.state().index.contains(&hash(chain, idx))
    }
}
