//! All blocks of the device: which are free, which are held, which are cache.

/// How many blocks are in which state; `n_free + n_held + n_cached == n_total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Blocks in the pool.
    pub n_total: usize,
    /// Blocks without content.
    pub n_free: usize,
    /// Blocks that at least one sequence holds.
    pub n_held: usize,
    /// Idle blocks that keep their content for reuse.
    pub n_cached: usize,
    /// Idle blocks that may be taken for something else at once.
    pub n_evictable: usize,
    /// Blocks, held or idle, whose content is not saved yet.
    pub n_unsaved: usize,
    /// Blocks, held or idle, that are pinned.
    pub n_pinned: usize,
}

impl PoolCounts {
    /// Blocks that cannot be had at once: held ones, and idle ones that are unsaved or pinned.
    pub fn n_unavailable(&self) -> usize {
        self.n_total - self.n_free - self.n_evictable
    }

    /// Share of the pool that cannot be had at once, in tenths of a percent, rounded down.
    pub fn utilization_permille(&self) -> usize {
        (self.n_unavailable() * 1000).checked_div(self.n_total).unwrap_or(0)
    }

    /// Strictly above 90 %, compared in integers.
    pub fn is_near_exhaustion(&self) -> bool {
        self.n_unavailable() * 10 > self.n_total * 9
    }
}
