//! [`CpuRunner`]: a decoder and the KV pool that it works on, behind the scheduler's interface.

use std::ops::{ControlFlow, Range};
use std::path::Path;

use kernels::activations::Rounding;
use kernels::isa::Isa;
use kernels::kv::KvArena;
use kernels::kv::part::{gather, scatter};
use kernels::threads::Threads;
use scheduler::{
    BlockId, BlockPart, KvDtype, KvLayout, LentBlock, Logits, ModelCacheSpec, ModelRunner, RunError, Step,
};

use crate::batch::{self, Batch, FlatStep};
use crate::decoder::{CHUNK_TOKENS, Cpu, Decoder};
use crate::error::{Cause, LoadError};
use crate::gguf::Gguf;
use crate::spec::ModelSpec;
use crate::weights::{CpuPack, LoadProgress, ModelWeights};

/// How a model is set up.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Workers of the arithmetic, the engine's thread among them; at least 1.
    pub n_threads: usize,
    /// The instruction set to use.
    pub isa: Isa,
    /// Tokens of a KV block, a power of two from 16 to 256.
    pub block_tokens: usize,
    /// How keys and values are stored.
    pub kv_dtype: KvDtype,
    /// How much KV there is room for.
    pub pool: PoolSize,
    /// Bytes of the pool, from its first block on, whose memory is taken at once. The system gives memory when it is
    /// first written to, which costs as much again as writing.
    pub ready_bytes: u64,
    /// How exactly quantised weights are multiplied.
    pub precision: Precision,
}

/// How exactly quantised weights are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// What they multiply is rounded to 8 bits, as is usual.
    Fast,
    /// To 16 bits: next tokens as from floats, for about twice the arithmetic and no more memory.
    Full,
}

impl Precision {
    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Fast => "fast",
            Precision::Full => "full",
        }
    }

    fn rounding(self) -> Rounding {
        match self {
            Precision::Fast => Rounding::Bits8,
            Precision::Full => Rounding::Bits16,
        }
    }
}

/// The size of the KV pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolSize {
    /// As many whole blocks as fit this many bytes.
    Bytes(u64),
    /// This many blocks.
    Blocks(usize),
}

/// Runs steps on the CPU.
///
/// Memory of the pool is given by the system when it is first written.
pub struct CpuRunner {
    decoder: Decoder,
    arena: KvArena,
    cache_spec: ModelCacheSpec,
    layout: KvLayout,
    flat: FlatStep,
    chunk_tokens: usize,
}

/// Load the model at `path`.
///
/// `progress` is called after each tensor; when it breaks, loading ends with [`LoadError::Cancelled`].
///
/// # Errors
/// The file cannot be read, is damaged, or is of a kind that is not supported; its tensors do not fit its
/// metadata; the options make no sense; memory is short. Each message is one line that names the file.
pub fn load(
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<CpuRunner, LoadError> {
    let gguf = Gguf::open(path)?;
    load_open(&gguf, options, progress)
}

/// Load the model of a file that is open already; as [`load`].
///
/// # Errors
/// As [`load`].
pub fn load_open(
    gguf: &Gguf,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<CpuRunner, LoadError> {
    CpuRunner::new(gguf, options, progress).map_err(|cause| cause.in_file(gguf.path()))
}

impl CpuRunner {
    fn new(
        gguf: &Gguf,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<CpuRunner, Cause> {
        if options.n_threads == 0 {
            return Err(Cause::Setup("0 threads".to_owned()));
        }
        let spec = ModelSpec::read(gguf)?;
        let cache_spec = spec.cache_spec();
        let layout = KvLayout::new(&cache_spec, options.block_tokens, options.kv_dtype)
            .map_err(|error| Cause::Setup(error.to_string()))?;
        // The pool comes first: a size that cannot be had costs no packing.
        let mut arena = arena(&layout, options.pool)?;
        let cpu = Cpu { threads: Threads::new(options.n_threads), isa: options.isa };
        let pack = CpuPack { threads: &cpu.threads };
        let weights = std::thread::scope(|scope| {
            scope.spawn(|| arena.take_memory(options.ready_bytes));
            ModelWeights::load(gguf, &spec, &pack, progress)
        })?;
        let decoder = Decoder::new(spec, weights, &layout, cpu, options.precision.rounding());
        let flat = FlatStep::default();
        Ok(CpuRunner { decoder, arena, cache_spec, layout, flat, chunk_tokens: CHUNK_TOKENS })
    }

    fn check_block(&self, block: BlockId, n_bytes: usize) -> Result<(), RunError> {
        check_block(block, n_bytes, self.arena.n_blocks(), self.layout.block_bytes)
    }

    /// Where a part's bytes are in a block; none of a group or of more tokens than there are.
    fn part(&self, part: BlockPart) -> Vec<Range<usize>> {
        let group = self.layout.groups.get(part.group_idx);
        let group = group.filter(|_| part.n_tokens <= self.layout.block_tokens);
        group.map_or_else(Vec::new, |group| self.decoder.part(&group.layers, part.n_tokens))
    }

    fn check_part(&self, block: BlockId, ranges: &[Range<usize>], n_bytes: usize) -> Result<(), RunError> {
        check_block(block, n_bytes, self.arena.n_blocks(), ranges.iter().map(Range::len).sum())
    }
}

impl ModelRunner for CpuRunner {
    fn cache_spec(&self) -> &ModelCacheSpec {
        &self.cache_spec
    }

    fn layout(&self) -> &KvLayout {
        &self.layout
    }

    fn n_blocks(&self) -> usize {
        self.arena.n_blocks()
    }

    fn run(&mut self, step: &Step, out: &mut Logits) -> Result<(), RunError> {
        batch::check(step, &self.cache_spec, &self.layout, self.arena.n_blocks())?;
        for copy in &step.copies {
            self.arena.copy_block(copy.from.idx(), copy.to.idx());
        }
        let batch = Batch::new(step, &self.layout, &mut self.flat, self.chunk_tokens);
        make_room(step, batch.wanted.len(), self.cache_spec.n_vocab, out)?;
        self.decoder.forward(&mut self.arena, &batch, &mut out.values);
        Ok(())
    }

    fn export_block(&mut self, block: BlockId, out: &mut [u8]) -> Result<(), RunError> {
        self.check_block(block, out.len())?;
        out.copy_from_slice(self.arena.block(block.idx()));
        Ok(())
    }

    fn part_bytes(&self, part: BlockPart) -> usize {
        self.part(part).iter().map(Range::len).sum()
    }

    fn export_part(&mut self, block: BlockId, part: BlockPart, out: &mut [u8]) -> Result<(), RunError> {
        let ranges = self.part(part);
        self.check_part(block, &ranges, out.len())?;
        gather(self.arena.block(block.idx()), &ranges, out);
        Ok(())
    }

    fn import_part(&mut self, block: BlockId, part: BlockPart, bytes: &[u8]) -> Result<(), RunError> {
        let ranges = self.part(part);
        self.check_part(block, &ranges, bytes.len())?;
        scatter(bytes, &ranges, self.arena.block_mut(block.idx()));
        Ok(())
    }

    fn lend_block(&mut self, block: BlockId) -> Option<LentBlock> {
        (block.idx() < self.arena.n_blocks()).then(|| -> LentBlock { Box::new(self.arena.lend(block.idx())) })
    }

    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), RunError> {
        self.check_block(block, bytes.len())?;
        self.arena.block_mut(block.idx()).copy_from_slice(bytes);
        Ok(())
    }
}

/// Hold that a pool of `n_blocks` has `block` and that its `block_bytes` are what a transfer moves.
pub(crate) fn check_block(
    block: BlockId,
    n_bytes: usize,
    n_blocks: usize,
    block_bytes: usize,
) -> Result<(), RunError> {
    if block.idx() >= n_blocks {
        return Err(RunError::NoSuchBlock { block: block.0, n_blocks });
    }
    if n_bytes != block_bytes {
        return Err(RunError::BlockSize { got: n_bytes, want: block_bytes });
    }
    Ok(())
}

/// Give `out` its rows' origins and room for their values.
pub(crate) fn make_room(
    step: &Step,
    n_rows: usize,
    n_vocab: usize,
    out: &mut Logits,
) -> Result<(), RunError> {
    out.n_vocab = n_vocab;
    out.origin.clear();
    for (row_idx, row) in step.rows.iter().enumerate() {
        let first = match row.logits {
            scheduler::LogitsWanted::None => row.tokens.len(),
            scheduler::LogitsWanted::Last => row.tokens.len() - 1,
            scheduler::LogitsWanted::All => 0,
        };
        out.origin.extend((first..row.tokens.len()).map(|token_idx| (row_idx, token_idx)));
    }
    let n_values = n_rows * n_vocab;
    let more = n_values.saturating_sub(out.values.len());
    let memory = |_| RunError::OutOfMemory(format!("no room for {n_rows} rows of {n_vocab} logits"));
    out.values.try_reserve(more).map_err(memory)?;
    out.values.resize(n_values, 0.0);
    Ok(())
}

fn arena(layout: &KvLayout, pool: PoolSize) -> Result<KvArena, Cause> {
    let n_blocks = n_blocks(layout, pool)?;
    KvArena::new(n_blocks, layout.block_bytes).map_err(|error| Cause::Setup(error.to_string()))
}

/// How many blocks a pool of this size has.
pub(crate) fn n_blocks(layout: &KvLayout, pool: PoolSize) -> Result<usize, Cause> {
    let n_blocks = match pool {
        PoolSize::Blocks(n_blocks) => n_blocks as u64,
        PoolSize::Bytes(bytes) => bytes / layout.block_bytes as u64,
    };
    match u32::try_from(n_blocks).ok().filter(|&n| n > 0) {
        Some(n_blocks) => Ok(n_blocks as usize),
        None => {
            let bytes = layout.block_bytes;
            Err(Cause::Setup(format!("a KV pool of {pool:?} for blocks of {bytes} bytes")))
        }
    }
}

#[cfg(test)]
mod tests;
