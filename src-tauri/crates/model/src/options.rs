//! How a model is set up, and how far that has come.

use kernels::activations::Rounding;
use kernels::isa::Isa;
use scheduler::KvDtype;

/// How a model is set up on the CPU.
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

/// How a model that reads whole texts is set up, which the CPU does; it keeps no KV.
#[derive(Debug, Clone, Copy)]
pub struct EmbedderOptions {
    /// Workers of the arithmetic, the engine's thread among them; at least 1.
    pub n_threads: usize,
    /// The instruction set to use.
    pub isa: Isa,
    /// How exactly quantised weights are multiplied.
    pub precision: Precision,
}

/// How a model is set up on a GPU, which multiplies weights as the file has them and rounds nothing but KV.
#[derive(Debug, Clone, Copy)]
pub struct GpuOptions {
    /// Tokens of a KV block, a power of two from 16 to 256.
    pub block_tokens: usize,
    /// How keys and values are stored.
    pub kv_dtype: KvDtype,
    /// How much KV there is room for.
    pub pool: PoolSize,
}

/// With what a GPU is compared before it serves.
#[derive(Debug, Clone, Copy)]
pub struct GpuProofOptions {
    /// Workers of the CPU's arithmetic; at least 1.
    pub n_threads: usize,
    /// The instruction set to use.
    pub isa: Isa,
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

    pub(crate) fn rounding(self) -> Rounding {
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

/// How much of a model's tensors has been made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of tensors packed so far.
    pub bytes_done: u64,
    /// Bytes of tensors in all.
    pub bytes_total: u64,
}
