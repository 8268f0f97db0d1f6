//! The store as the engine sees it.

/// What a stored block is found by: the chain hash of its tokens under the model's fingerprint, and its layer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey {
    /// `BLAKE3(parent hash, token ids, fingerprint)`.
    pub hash: [u8; 32],
    /// Index of the layer group.
    pub group: u16,
}

/// Why a block was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveReason {
    /// It was filled.
    BlockFull,
    /// The last, partial block of a finished sequence.
    Tail,
    /// A drain ended the sequence.
    Drain,
}

/// A block with all that is needed to use it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRecord {
    /// What it is found by.
    pub key: BlockKey,
    /// Chain hash of the tokens before it; zeros for the first.
    pub parent: [u8; 32],
    /// The model's fingerprint.
    pub fingerprint: [u8; 32],
    /// The tokens whose KV it holds; compared after a hash hit.
    pub tokens: Vec<u32>,
    /// Why it was written.
    pub reason: SaveReason,
    /// The pool's bytes, bit for bit.
    pub bytes: Vec<u8>,
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
    /// Bytes waiting in the writer's queue.
    pub queued_bytes: u64,
    /// Bytes on disk.
    pub stored_bytes: u64,
}

/// Saves and restores blocks in the background; no call waits for the disk.
pub trait BlockStore: Send + Sync {
    /// Whether blocks are kept at all; when not, nothing needs to be exported.
    fn is_on(&self) -> bool;

    /// Queue a block for writing.
    ///
    /// # Errors
    /// The queue is full; the record comes back and may be offered again.
    fn save(&self, record: BlockRecord) -> Result<(), Box<BlockRecord>>;

    /// Read and verify `keys`, in order, and hand over one result each.
    fn restore(
        &self,
        keys: Vec<BlockKey>,
        deliver: Box<dyn FnOnce(Vec<Result<BlockRecord, MissReason>>) + Send>,
    );

    /// Make everything queued so far durable, then call `done`.
    fn flush(&self, done: Box<dyn FnOnce(FlushReport) + Send>);

    /// Its numbers now.
    fn stats(&self) -> StoreStats;

    /// Whether a block could be restored now, and if not, why. Takes no I/O.
    ///
    /// # Errors
    /// The reason that a restore would give.
    fn find(&self, _key: &BlockKey) -> Result<(), MissReason> {
        Err(MissReason::Absent)
    }

    /// From now on records of any other model than `fingerprint` are [`MissReason::Foreign`].
    fn use_model(&self, _fingerprint: [u8; 32]) {}
}
