//! Computes the content addresses of prefixes: a hash chain over token ids, rooted in the model's fingerprint.

use address::ChainHash;

use crate::ids::TokenId;

/// Hashes prefixes block by block under one salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHasher {
    salt: [u8; 32],
}

impl ChainHasher {
    /// A hasher for one model; `salt` is the model's fingerprint.
    pub fn new(salt: [u8; 32]) -> ChainHasher {
        ChainHasher { salt }
    }

    /// The address of the empty prefix: the parent of every first block.
    pub fn root(&self) -> ChainHash {
        ChainHash(blake3::keyed_hash(&self.salt, b"samovar chain root").into())
    }

    /// The address of the prefix `parent` followed by `tokens`, which are at most one block.
    pub fn child(&self, parent: &ChainHash, tokens: &[TokenId]) -> ChainHash {
        let mut hasher = blake3::Hasher::new_keyed(&self.salt);
        hasher.update(&parent.0);
        for token in tokens {
            hasher.update(&token.to_le_bytes());
        }
        ChainHash(hasher.finalize().into())
    }

    /// The addresses of the whole blocks of `tokens`, in order; a last partial block has none.
    pub fn whole_blocks(&self, tokens: &[TokenId], block_tokens: usize) -> Vec<ChainHash> {
        let mut parent = self.root();
        tokens
            .chunks_exact(block_tokens)
            .map(|chunk| {
                parent = self.child(&parent, chunk);
                parent
            })
            .collect()
    }
}
