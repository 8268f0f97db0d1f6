//! The store as the engine sees it.

use std::io;
use std::sync::Arc;

use address::{BlockKey, ChainHash};

use crate::agent::{AgentManifest, OfModels, Pin};
use crate::idle_buffers::BlockBytes;
use crate::record::BlockRecord;

/// A block to be restored.
#[derive(Debug)]
pub struct Wanted {
    /// What it is found by.
    pub key: BlockKey,
    /// Of which model it has to be; another's record is [`MissReason::Foreign`].
    pub fingerprint: [u8; 32],
    /// Where its bytes are to go, if there are as many; else to memory of the store's.
    pub room: Option<BlockBytes>,
}

/// Why a block could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MissReason {
    /// It was never written, or has been given up for space.
    Absent,
    /// Its bytes do not match their digest; the record is quarantined.
    Corrupt,
    /// It belongs to another model.
    Foreign,
    /// It was written in a format that this version does not read.
    Version,
    /// The disk refused.
    Io,
}

impl MissReason {
    /// All of them, in the order of their declaration.
    pub const ALL: [MissReason; 5] =
        [MissReason::Absent, MissReason::Corrupt, MissReason::Foreign, MissReason::Version, MissReason::Io];

    /// The label in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            MissReason::Absent => "absent",
            MissReason::Corrupt => "corrupt",
            MissReason::Foreign => "foreign",
            MissReason::Version => "version",
            MissReason::Io => "io",
        }
    }
}

/// A block that outlives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableBlock {
    /// What it is found by.
    pub key: BlockKey,
    /// What it takes on disk.
    pub n_bytes: u64,
}

/// How a flush ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlushReport {
    /// Records made durable by it.
    pub n_saved: usize,
    /// Records that could not be written.
    pub n_failed: usize,
}

/// What the store can say of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Bytes of records that are not durable yet: in the writer's queue, or written and not synced.
    pub queued_bytes: u64,
    /// Bytes on disk: every file of the directory, in whole file-system blocks.
    pub stored_bytes: u64,
    /// What `stored_bytes` never exceeds, unless by what others put there.
    pub max_bytes: u64,
    /// Blocks of KV that can be restored.
    pub n_blocks: u64,
    /// Checkpoints that can be restored: states of which every piece is there.
    pub n_checkpoints: u64,
    /// Bytes on disk of blocks and checkpoints.
    pub live_bytes: u64,
    /// Bytes of these that are checkpoints'.
    pub checkpoint_bytes: u64,
    /// Bytes written since midnight (UTC), whatever for.
    pub written_today_bytes: u64,
    /// Bytes written since the start, whatever for.
    pub written_bytes: u64,
    /// Records made durable since the start.
    pub n_saved: u64,
    /// Records given up because the disk refused or had no room, since the start.
    pub n_not_saved: u64,
    /// Records restored since the start.
    pub n_restored: u64,
    /// Blocks given up for space since the start.
    pub n_evicted: u64,
    /// Records that did not match their digest, since the start.
    pub n_quarantined: u64,
    /// Segments and manifests of formats that this version does not read.
    pub n_other_versions: u64,
    /// Why nothing is being saved now.
    pub trouble: Option<Trouble>,
}

/// Why the store does not save at the moment; it tries again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The disk is full, or as full as the free-space floor allows.
    DiskFull,
    /// The directory cannot be written.
    ReadOnly,
    /// The byte cap is reached and nothing may be given up: what is there is pinned, or is not the store's.
    CapReached,
    /// Any other refusal of the disk.
    Io,
}

impl Trouble {
    /// All of them, in the order of their declaration.
    pub const ALL: [Trouble; 4] = [Trouble::DiskFull, Trouble::ReadOnly, Trouble::CapReached, Trouble::Io];

    /// What an error of the disk means.
    pub fn of(error: &io::Error) -> Trouble {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Trouble::ReadOnly,
            _ => Trouble::Io,
        }
    }

    /// The label in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Trouble::DiskFull => "disk_full",
            Trouble::ReadOnly => "read_only",
            Trouble::CapReached => "cap_reached",
            Trouble::Io => "io",
        }
    }
}

/// News from the store's threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// These are durable: they outlive a power cut.
    Saved(Vec<BlockKey>),
    /// These were taken by `save` and then given up; their bytes are gone unless the pool still has them.
    NotSaved(Vec<BlockKey>),
    /// These were durable, and somebody has removed or cut their files. They may be offered again.
    Lost(Vec<BlockKey>),
    /// Nothing is saved from now on.
    Failing(Trouble),
    /// Saving works again. What was not saved may be offered again, parents before children.
    Recovered,
}

/// Who hears of [`StoreEvent`]s, on a thread of the store's; it must not wait for anything.
pub type StoreListener = Box<dyn Fn(StoreEvent) + Send + Sync>;

/// What is known of a prompt when it is decided whether its blocks are worth writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveCandidate {
    /// Tokens of the prompt.
    pub n_prompt_tokens: usize,
    /// Whether it was sent under an agent's name.
    pub origin: Origin,
}

/// Who sent a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An agent with a name: it will come back.
    Named,
    /// Nobody in particular.
    Anonymous,
}

/// Where the results of a restore go, one for each key, in order.
pub type Deliver = Box<dyn FnOnce(Vec<Result<BlockRecord, MissReason>>) + Send>;

/// Saves and restores blocks in the background; no call waits for the disk.
pub trait BlockStore: Send + Sync {
    /// Whether there is a store at all.
    fn is_on(&self) -> bool;

    /// Whether what is saved now is kept. Whoever wants to know it later too asks once and then follows
    /// [`StoreEvent::Failing`] and [`StoreEvent::Recovered`], which come in order with what happens to blocks.
    fn is_saving(&self) -> bool {
        self.is_on() && self.stats().trouble.is_none()
    }

    /// Room for a block of `n_bytes`, with any content.
    fn buffer(&self, n_bytes: usize) -> BlockBytes {
        BlockBytes::from(vec![0; n_bytes])
    }

    /// Queue a block for writing.
    ///
    /// # Errors
    /// The queue is full; the record comes back and may be offered again.
    fn save(&self, record: BlockRecord) -> Result<(), Box<BlockRecord>>;

    /// Read and verify blocks and hand over one result each, in order.
    fn restore(&self, wanted: Vec<Wanted>, deliver: Deliver);

    /// Make everything queued so far durable, then call `done`.
    fn flush(&self, done: Box<dyn FnOnce(FlushReport) + Send>);

    /// Its numbers now.
    fn stats(&self) -> StoreStats;

    /// For each of these blocks, whether it could be restored now, and if not, the reason that a restore would give.
    /// Takes no I/O, and one lock however many they are. A piece of a state is there when all of its pieces are.
    fn find(&self, keys: &[BlockKey]) -> Vec<Result<(), MissReason>>;

    /// Forget the states that these are pieces of, because what replaces them is durable: any piece stands for all of
    /// its state. What of one waits to be written is [`StoreEvent::NotSaved`]. A key of a block of KV changes nothing:
    /// others may go on from it.
    fn bury(&self, _keys: Vec<BlockKey>) {}

    /// The blocks at these addresses, of whatever layer groups, that are durable: they outlive a power cut. A state's
    /// pieces are among them when all of them are durable. In no order.
    fn durable_at(&self, _hashes: &[ChainHash]) -> Vec<DurableBlock> {
        Vec::new()
    }

    /// Send news to `listener` too from now on.
    fn listen(&self, _listener: StoreListener) {}

    /// Whether the blocks of a prompt are worth writing.
    fn admits(&self, _candidate: SaveCandidate) -> bool {
        true
    }

    /// Keep an agent's manifest, in place of the one of the same name and model; durable with the next flush.
    fn put_agent(&self, _manifest: AgentManifest) {}

    /// The manifests of all names and models, the last used first.
    fn agents(&self) -> Vec<Arc<AgentManifest>> {
        Vec::new()
    }

    /// The manifests of a name: one for each model that it was used with, the last used first.
    fn agent(&self, name: &str) -> Vec<Arc<AgentManifest>> {
        self.agents().into_iter().filter(|agent| agent.name == name).collect()
    }

    /// An agent's manifest as a crash would leave it; an older state than [`BlockStore::agent`] gives, for a moment.
    fn written_agent(&self, name: &str, fingerprint: &[u8; 32]) -> Option<Arc<AgentManifest>> {
        self.agent(name).into_iter().find(|manifest| manifest.fingerprint == *fingerprint)
    }

    /// Exempt an agent's blocks from being given up for space, or no longer. False when there is no such manifest.
    fn pin_agent(&self, _name: &str, _of: OfModels, _pin: Pin) -> bool {
        false
    }

    /// Forget an agent and erase the blocks that are its alone, then call `done`. False when there is no such
    /// manifest; `done` is called then too.
    fn delete_agent(&self, _name: &str, _of: OfModels, done: Box<dyn FnOnce() + Send>) -> bool {
        done();
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_reasons_and_troubles_have_each_of_them_once() {
        assert!(MissReason::ALL.into_iter().enumerate().all(|(i, reason)| reason as usize == i));
        assert_eq!(MissReason::ALL.len(), MissReason::Io as usize + 1, "the last one");
        assert!(Trouble::ALL.into_iter().enumerate().all(|(i, trouble)| trouble as usize == i));
        assert_eq!(Trouble::ALL.len(), Trouble::Io as usize + 1, "the last one");
    }
}
