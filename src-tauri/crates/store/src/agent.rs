//! Agents' manifests: which blocks a named conversation rests on, and the exact tokens that they hold.

use address::ChainHash;

use crate::format::{HeaderError, array, token_bytes, tokens_of};

/// The version that is written, and the only one that is read.
const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"SAMAGENT";
const HEADER_BYTES: usize = 112;
const DIGEST_BYTES: usize = 32;
/// A manifest of more bytes is not read.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// Bytes of a name at most, in place of a bound on what clients send.
pub(crate) const MAX_NAME_BYTES: usize = 4096;
/// Blocks of earlier states of the conversation that are remembered at most, so that deleting erases them too.
pub(crate) const MAX_FORMER: usize = 1 << 16;

/// A named conversation of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentManifest {
    /// What the client calls it; anything, up to 4,096 bytes.
    pub name: String,
    /// The model's fingerprint.
    pub fingerprint: [u8; 32],
    /// Tokens that a whole block holds.
    pub block_tokens: u32,
    /// The conversation, token by token, generated ones included.
    pub tokens: Vec<u32>,
    /// Which of `tokens` the model generated.
    pub generated: Vec<TokenSpan>,
    /// Chain hashes of the whole blocks, in order.
    pub blocks: Vec<ChainHash>,
    /// Chain hash of the last, partial block: the tokens after the whole ones.
    pub tail: Option<ChainHash>,
    /// When it was last used, in seconds since 1970.
    pub last_used: u64,
    /// Whether its blocks are exempt from being given up for space.
    pub pin: Pin,
    /// Chain hashes of blocks that it had and no longer has; the store keeps this list by itself.
    pub former: Vec<ChainHash>,
}

/// Whether blocks may be given up for space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pin {
    /// They stay.
    Pinned,
    /// They go when they are the ones used longest ago.
    #[default]
    Unpinned,
}

/// A run of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSpan {
    /// Index of the first.
    pub start: u32,
    /// How many.
    pub n_tokens: u32,
}

/// Which of the manifests that an agent's name has: one for each model that it was used with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfModels {
    /// All of them.
    All,
    /// That of the model with this fingerprint.
    One([u8; 32]),
}

impl OfModels {
    /// Whether the manifest of a model is meant.
    pub fn includes(&self, fingerprint: &[u8; 32]) -> bool {
        match self {
            OfModels::All => true,
            OfModels::One(model) => model == fingerprint,
        }
    }
}

impl AgentManifest {
    /// The name of a conversation that has none, from what tells it from others. It begins with a zero byte, which no
    /// client's name does; of too many manifests such ones are forgotten first.
    pub fn unnamed(root: &ChainHash) -> String {
        let hex: String = root.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\0{hex}")
    }

    /// Every block of its present state.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = &ChainHash> {
        self.blocks.iter().chain(&self.tail)
    }

    /// The name of its file, from the model and the agent's name.
    pub(crate) fn file_name(fingerprint: &[u8; 32], name: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(fingerprint).update(name.as_bytes());
        format!("{}.agent", &hasher.finalize().to_hex()[..32])
    }

    /// Whether a file of this name is one of ours.
    pub(crate) fn is_file_name(name: &str) -> bool {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        name.strip_suffix(".agent").is_some_and(|digits| digits.len() == 32 && digits.bytes().all(is_digit))
    }

    /// The file's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = u8::from(self.pin == Pin::Pinned);
        bytes[16..24].copy_from_slice(&self.last_used.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.fingerprint);
        let counts = [
            (12, self.block_tokens),
            (56, self.name.len() as u32),
            (60, self.tokens.len() as u32),
            (64, self.blocks.len() as u32),
            (68, self.generated.len() as u32),
            (72, self.former.len() as u32),
            (76, u32::from(self.tail.is_some())),
        ];
        for (at, count) in counts {
            bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
        }
        bytes[80..112].copy_from_slice(&self.tail.map_or([0; 32], |tail| tail.0));
        bytes.extend(self.name.as_bytes());
        bytes.extend(token_bytes(&self.tokens));
        bytes.extend(self.blocks.iter().flat_map(|hash| hash.0));
        for span in &self.generated {
            bytes.extend(span.start.to_le_bytes());
            bytes.extend(span.n_tokens.to_le_bytes());
        }
        bytes.extend(self.former.iter().flat_map(|hash| hash.0));
        let digest = blake3::hash(&bytes);
        bytes.extend(digest.as_bytes());
        bytes
    }

    /// Read a file's bytes and check them against their digest.
    pub(crate) fn decode(bytes: &[u8]) -> Result<AgentManifest, HeaderError> {
        if bytes.len() < HEADER_BYTES + DIGEST_BYTES || &bytes[..8] != MAGIC {
            return Err(HeaderError::Damaged);
        }
        let (content, digest) = bytes.split_at(bytes.len() - DIGEST_BYTES);
        if blake3::hash(content) != array::<32>(digest, 0) {
            return Err(HeaderError::Damaged);
        }
        if u16::from_le_bytes(array(content, 8)) != VERSION {
            return Err(HeaderError::Version);
        }
        let count = |at: usize| u32::from_le_bytes(array(content, at));
        let mut rest = &content[HEADER_BYTES..];
        let mut take = |n: u32, size: usize| {
            let (taken, left) = rest.split_at_checked(n as usize * size).ok_or(HeaderError::Damaged)?;
            rest = left;
            Ok(taken)
        };
        let name = std::str::from_utf8(take(count(56), 1)?).map_err(|_| HeaderError::Damaged)?;
        let tokens = tokens_of(take(count(60), 4)?);
        let blocks = hashes_of(take(count(64), 32)?);
        let span = |eight: &[u8]| TokenSpan {
            start: u32::from_le_bytes(array(eight, 0)),
            n_tokens: u32::from_le_bytes(array(eight, 4)),
        };
        let generated = take(count(68), 8)?.chunks_exact(8).map(span).collect();
        let former = hashes_of(take(count(72), 32)?);
        if !rest.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(HeaderError::Damaged);
        }
        Ok(AgentManifest {
            name: name.to_owned(),
            fingerprint: array(content, 24),
            block_tokens: count(12),
            tokens,
            generated,
            blocks,
            tail: (count(76) == 1).then(|| ChainHash(array(content, 80))),
            last_used: u64::from_le_bytes(array(content, 16)),
            pin: if content[10] == 1 { Pin::Pinned } else { Pin::Unpinned },
            former,
        })
    }
}

fn hashes_of(bytes: &[u8]) -> Vec<ChainHash> {
    bytes.chunks_exact(32).map(|hash| ChainHash(array(hash, 0))).collect()
}

/// Whether a name is that of a conversation without one.
pub fn is_unnamed(name: &str) -> bool {
    name.starts_with('\0')
}
