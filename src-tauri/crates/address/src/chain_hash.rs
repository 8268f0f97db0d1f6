//! The address of a token prefix.

/// The content address of a token prefix: `BLAKE3(fingerprint, parent, tokens of the last block)`.
///
/// Two blocks of equal chain hash and layer group hold the KV of the same tokens at the same positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainHash(pub [u8; 32]);
