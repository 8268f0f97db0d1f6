//! Where a request began on a model with recurrent layers, whose state cannot be cut back to any token.

/// What the kept states came to for one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointUse {
    /// Leading tokens after which a state was kept that it began with; 0 where it began at the start.
    pub n_tokens: usize,
    /// Tokens behind these whose keys and values were there too, and that were read again because no state was kept at
    /// their end: what one at the exact place would have saved.
    pub n_without_state: usize,
    /// Places at which its own state was to be kept and there was no room for it.
    pub n_skipped: usize,
}
