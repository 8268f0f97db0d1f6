//! [`Runner`]: a decoder and the KV pool that its backend has, behind the scheduler's interface.

use std::ops::Range;

use scheduler::{
    BlockId, BlockPart, KvLayout, LentBlock, ModelCacheSpec, ModelRunner, RunError, Step, StepOutput, Wanted,
};

use super::backend::Backend;
use super::batch::{self, Batch};
use super::decoder::{Decoder, Unwatched, Witness};
use super::pool::check_block;
use crate::plan::model_plan::ModelPlan;
use crate::plan::weights::ModelWeights;

/// Runs steps on a backend. One thread owns it, and every call leaves the backend idle.
///
/// Fields are dropped in their order: weights go before the device that they lie on.
pub(crate) struct Runner<B: Backend> {
    decoder: Decoder<B>,
    backend: B,
    cache_spec: ModelCacheSpec,
    layout: KvLayout,
    chunk_tokens: usize,
}

impl<B: Backend> Runner<B> {
    /// Run a model of `plan`, whose KV `layout` cuts.
    pub(crate) fn new(
        plan: ModelPlan,
        weights: ModelWeights<B::Matrix, B::Vector>,
        layout: KvLayout,
        backend: B,
    ) -> Runner<B> {
        let cache_spec = plan.cache_spec();
        let decoder = Decoder { plan, weights };
        Runner { decoder, backend, cache_spec, layout, chunk_tokens: B::CHUNK_TOKENS }
    }

    /// Run `step` while `witness` looks on; as [`ModelRunner::run`].
    pub(crate) fn run_watched(
        &mut self,
        step: &Step,
        out: &mut StepOutput,
        witness: &mut impl Witness<B>,
    ) -> Result<(), RunError> {
        batch::check(step, &self.cache_spec, &self.layout, self.backend.n_blocks())?;
        let batch = Batch::new(step, &self.layout, self.chunk_tokens);
        make_room(step, &self.decoder.plan, out)?;
        let decoder = &self.decoder;
        self.backend.guarded(|backend| {
            for copy in &step.copies {
                backend.copy_block(copy.from.idx(), copy.to.idx())?;
            }
            decoder.forward(backend, &batch, out, witness)
        })
    }

    /// What it computes, in the context that its pool holds.
    #[cfg(any(test, all(feature = "metal", target_os = "macos")))]
    pub(crate) fn plan(&self) -> &ModelPlan {
        &self.decoder.plan
    }

    /// Cut steps otherwise than users' are cut.
    #[cfg(test)]
    pub(crate) fn in_chunks_of(&mut self, chunk_tokens: usize) {
        self.chunk_tokens = chunk_tokens;
    }

    #[cfg(test)]
    pub(crate) fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Where a part's bytes are in a block; none of a group or of more tokens than there are.
    fn ranges(&self, part: BlockPart) -> Vec<Range<usize>> {
        let group = self.layout.groups.get(part.group_idx);
        let Some(group) = group.filter(|_| part.n_tokens <= self.layout.block_tokens) else {
            return Vec::new();
        };
        self.backend.part(&group.layers, part.n_tokens).unwrap_or_else(|| self.whole())
    }

    fn whole(&self) -> Vec<Range<usize>> {
        std::iter::once(0..self.layout.block_bytes).collect()
    }

    fn read(&mut self, block: BlockId, ranges: &[Range<usize>], out: &mut [u8]) -> Result<(), RunError> {
        check_block(block, out.len(), self.backend.n_blocks(), ranges.iter().map(Range::len).sum())?;
        self.backend.guarded(|backend| backend.read(block.idx(), ranges, out))
    }

    fn write(&mut self, block: BlockId, ranges: &[Range<usize>], bytes: &[u8]) -> Result<(), RunError> {
        check_block(block, bytes.len(), self.backend.n_blocks(), ranges.iter().map(Range::len).sum())?;
        self.backend.guarded(|backend| backend.write(block.idx(), ranges, bytes))
    }
}

impl<B: Backend> Drop for Runner<B> {
    fn drop(&mut self) {
        // Memory must not go while a device uses it; that the device has failed is known by then.
        let _ = self.backend.guarded(|_| Ok(()));
    }
}

impl<B: Backend> ModelRunner for Runner<B>
where
    Runner<B>: Send,
{
    fn cache_spec(&self) -> &ModelCacheSpec {
        &self.cache_spec
    }

    fn layout(&self) -> &KvLayout {
        &self.layout
    }

    fn n_blocks(&self) -> usize {
        self.backend.n_blocks()
    }

    fn run(&mut self, step: &Step, out: &mut StepOutput) -> Result<(), RunError> {
        self.run_watched(step, out, &mut Unwatched)
    }

    fn export_block(&mut self, block: BlockId, out: &mut [u8]) -> Result<(), RunError> {
        let whole = self.whole();
        self.read(block, &whole, out)
    }

    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), RunError> {
        let whole = self.whole();
        self.write(block, &whole, bytes)
    }

    fn part_bytes(&self, part: BlockPart) -> usize {
        self.ranges(part).iter().map(Range::len).sum()
    }

    fn export_part(&mut self, block: BlockId, part: BlockPart, out: &mut [u8]) -> Result<(), RunError> {
        let ranges = self.ranges(part);
        self.read(block, &ranges, out)
    }

    fn import_part(&mut self, block: BlockId, part: BlockPart, bytes: &[u8]) -> Result<(), RunError> {
        let ranges = self.ranges(part);
        self.write(block, &ranges, bytes)
    }

    fn lend_block(&mut self, block: BlockId) -> Option<LentBlock> {
        (block.idx() < self.backend.n_blocks()).then(|| self.backend.lend(block.idx())).flatten()
    }
}

/// Give `out` its rows' origins and room for their values.
fn make_room(step: &Step, plan: &ModelPlan, out: &mut StepOutput) -> Result<(), RunError> {
    let StepOutput { logits, hidden } = out;
    (logits.n_vocab, hidden.width) = (plan.n_vocab, plan.n_embd);
    logits.origin.clear();
    hidden.origin.clear();
    for (row_idx, row) in step.rows.iter().enumerate() {
        logits.origin.extend(row.wanted.logits_of(row.len()).map(|token_idx| (row_idx, token_idx)));
        hidden.origin.extend((row.wanted == Wanted::LastHidden).then_some(row_idx));
    }
    resize(&mut logits.values, logits.origin.len(), plan.n_vocab)?;
    resize(&mut hidden.values, hidden.origin.len(), plan.n_embd)
}

/// Make room for `n_rows` rows of `width` values.
pub(crate) fn resize(values: &mut Vec<f32>, n_rows: usize, width: usize) -> Result<(), RunError> {
    let n_values = n_rows * width;
    let more = n_values.saturating_sub(values.len());
    let memory = |_| RunError::OutOfMemory(format!("no room for {n_rows} rows of {width} values"));
    values.try_reserve(more).map_err(memory)?;
    values.resize(n_values, 0.0);
    Ok(())
}
