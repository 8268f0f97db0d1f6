//! The bytes of segments, as FORMAT.md has them: written and read here and nowhere else.

use address::{BlockKey, ChainHash, GroupId};
use twox_hash::XxHash3_128;

use crate::record::{BlockRecord, SaveReason};

/// The version that is written, and the only one that is read.
pub(crate) const VERSION: u16 = 2;
/// Bytes before the first record of a segment.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
/// Bytes of a record before its tokens.
pub(crate) const RECORD_HEADER_BYTES: usize = 192;
/// Tokens of a block at most.
pub(crate) const MAX_TOKENS: u32 = 1 << 16;
/// Payload of a record at most.
pub(crate) const MAX_PAYLOAD_BYTES: u32 = 1 << 30;

const SEGMENT_MAGIC: &[u8; 8] = b"SAMOVAR\0";
const RECORD_MAGIC: &[u8; 4] = b"SKVR";

/// Why a header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// It is not what was written, or the file ends within it.
    Damaged,
    /// It is of another version.
    Version,
}

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A block's KV follows, or a piece of a state.
    Block(SaveReason),
    /// Every record of the key that stands before `raised_at` is dead.
    Tombstone {
        /// Why.
        why: Death,
        /// Where this was written first; moving a tombstone does not change this.
        raised_at: Position,
    },
    /// The segment was completed and synced; nothing follows.
    Seal,
}

/// Why a block was buried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// Its agent was deleted: the bytes must go too.
    Deleted,
    /// Its bytes did not match their digest.
    Corrupt,
    /// It is a state that nobody goes on from any more: a later one of its conversation is durable.
    Replaced,
}

/// A place in the log; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    pub(crate) key: BlockKey,
    /// Zeros where the kind has none.
    pub(crate) parent: ChainHash,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) n_tokens: u32,
    pub(crate) payload_bytes: u32,
    /// Seconds since 1970.
    pub(crate) saved_at: u64,
    pub(crate) body_digest: BodyDigest,
}

impl RecordHeader {
    /// The header of a block's record.
    pub(crate) fn of_block(record: &BlockRecord, saved_at: u64) -> RecordHeader {
        RecordHeader {
            kind: Kind::Block(record.reason),
            key: record.key,
            parent: record.parent,
            fingerprint: record.fingerprint,
            n_tokens: record.tokens.len() as u32,
            payload_bytes: record.bytes.len() as u32,
            saved_at,
            body_digest: BodyDigest::of(&token_bytes(&record.tokens), &record.bytes),
        }
    }

    /// A record that has no body.
    pub(crate) fn without_body(kind: Kind, key: BlockKey, saved_at: u64) -> RecordHeader {
        RecordHeader {
            kind,
            key,
            parent: ChainHash([0; 32]),
            fingerprint: [0; 32],
            n_tokens: 0,
            payload_bytes: 0,
            saved_at,
            body_digest: BodyDigest::of(&[], &[]),
        }
    }

    /// Bytes of tokens and payload.
    pub(crate) fn body_bytes(&self) -> u64 {
        4 * u64::from(self.n_tokens) + u64::from(self.payload_bytes)
    }

    /// Bytes from this record to the next.
    pub(crate) fn record_bytes(&self) -> u64 {
        RECORD_HEADER_BYTES as u64 + self.body_bytes()
    }

    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        let (kind, reason, parent) = match self.kind {
            Kind::Block(SaveReason::BlockFull) => (1, 0, self.parent.0),
            Kind::Block(SaveReason::Tail) => (1, 1, self.parent.0),
            Kind::Block(SaveReason::Drain) => (1, 2, self.parent.0),
            Kind::Block(SaveReason::Checkpoint { n_pieces }) => {
                bytes[50..52].copy_from_slice(&n_pieces.to_le_bytes());
                (4, 0, self.parent.0)
            }
            Kind::Tombstone { why, raised_at } => {
                let mut place = [0; 32];
                place[..8].copy_from_slice(&raised_at.segment.to_le_bytes());
                place[8..16].copy_from_slice(&raised_at.offset.to_le_bytes());
                let why = match why {
                    Death::Deleted => 0,
                    Death::Corrupt => 1,
                    Death::Replaced => 2,
                };
                (2, why, place)
            }
            Kind::Seal => (3, 0, [0; 32]),
        };
        bytes[..4].copy_from_slice(RECORD_MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6] = kind;
        bytes[7] = reason;
        bytes[8..12].copy_from_slice(&self.n_tokens.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.key.hash.0);
        bytes[48..50].copy_from_slice(&self.key.group.bits().to_le_bytes());
        bytes[56..64].copy_from_slice(&self.saved_at.to_le_bytes());
        bytes[64..96].copy_from_slice(&parent);
        bytes[96..128].copy_from_slice(&self.fingerprint);
        bytes[128..144].copy_from_slice(&self.body_digest.0);
        let digest = blake3::hash(&bytes[..160]);
        bytes[160..].copy_from_slice(digest.as_bytes());
        bytes
    }

    /// Read a header and check it against its digest.
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Result<RecordHeader, HeaderError> {
        if &bytes[..4] != RECORD_MAGIC || blake3::hash(&bytes[..160]) != array::<32>(bytes, 160) {
            return Err(HeaderError::Damaged);
        }
        if u16::from_le_bytes(array(bytes, 4)) != VERSION {
            return Err(HeaderError::Version);
        }
        let parent = array::<32>(bytes, 64);
        let kind = match (bytes[6], bytes[7]) {
            (1, 0) => Kind::Block(SaveReason::BlockFull),
            (1, 1) => Kind::Block(SaveReason::Tail),
            (1, 2) => Kind::Block(SaveReason::Drain),
            (2, why @ 0..=2) => Kind::Tombstone {
                why: match why {
                    0 => Death::Deleted,
                    1 => Death::Corrupt,
                    _ => Death::Replaced,
                },
                raised_at: Position {
                    segment: u64::from_le_bytes(array(bytes, 64)),
                    offset: u64::from_le_bytes(array(bytes, 72)),
                },
            },
            (3, 0) => Kind::Seal,
            (4, 0) => Kind::Block(SaveReason::Checkpoint { n_pieces: u16::from_le_bytes(array(bytes, 50)) }),
            _ => return Err(HeaderError::Version),
        };
        let header = RecordHeader {
            parent: ChainHash(if matches!(kind, Kind::Block(_)) { parent } else { [0; 32] }),
            kind,
            key: BlockKey {
                hash: ChainHash(array(bytes, 16)),
                group: GroupId::from_bits(u16::from_le_bytes(array(bytes, 48))),
            },
            fingerprint: array(bytes, 96),
            n_tokens: u32::from_le_bytes(array(bytes, 8)),
            payload_bytes: u32::from_le_bytes(array(bytes, 12)),
            saved_at: u64::from_le_bytes(array(bytes, 56)),
            body_digest: BodyDigest(array(bytes, 128)),
        };
        let is_sound = match header.kind {
            Kind::Block(reason) => reason.fits(&header.key),
            Kind::Tombstone { .. } | Kind::Seal => true,
        };
        if !is_sound || header.n_tokens > MAX_TOKENS || header.payload_bytes > MAX_PAYLOAD_BYTES {
            return Err(HeaderError::Damaged);
        }
        Ok(header)
    }
}

/// XXH3 of 128 bits of a record's tokens and payload: it finds damage, at the speed of memory. Against somebody who
/// can write to the directory no digest without a key helps, however slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodyDigest(pub(crate) [u8; 16]);

impl BodyDigest {
    pub(crate) fn of(tokens: &[u8], payload: &[u8]) -> BodyDigest {
        let mut body = BodyHasher::new();
        body.update(tokens);
        body.update(payload);
        body.finish()
    }
}

/// The digest of a body that comes in pieces.
pub(crate) struct BodyHasher(XxHash3_128);

impl BodyHasher {
    pub(crate) fn new() -> BodyHasher {
        BodyHasher(XxHash3_128::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub(crate) fn finish(&self) -> BodyDigest {
        BodyDigest(self.0.finish_128().to_le_bytes())
    }
}

/// Token ids as they lie on disk.
pub(crate) fn token_bytes(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
}

/// Token ids from the disk.
pub(crate) fn tokens_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes(array(four, 0))).collect()
}

/// The first bytes of segment `id`.
pub(crate) fn encode_segment_header(id: u64, created_at: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes[..8].copy_from_slice(SEGMENT_MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&id.to_le_bytes());
    bytes[24..32].copy_from_slice(&created_at.to_le_bytes());
    let digest = blake3::hash(&bytes[..32]);
    bytes[32..].copy_from_slice(digest.as_bytes());
    bytes
}

/// Check that these are the first bytes of segment `id`.
pub(crate) fn check_segment_header(bytes: &[u8; SEGMENT_HEADER_BYTES], id: u64) -> Result<(), HeaderError> {
    if &bytes[..8] != SEGMENT_MAGIC || blake3::hash(&bytes[..32]) != array::<32>(bytes, 32) {
        return Err(HeaderError::Damaged);
    }
    if u16::from_le_bytes(array(bytes, 8)) != VERSION {
        return Err(HeaderError::Version);
    }
    if u64::from_le_bytes(array(bytes, 16)) == id { Ok(()) } else { Err(HeaderError::Damaged) }
}

/// `N` bytes of `bytes` from `at` on, which the caller knows to be there.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut found = [0; N];
    found.copy_from_slice(&bytes[at..at + N]);
    found
}
