//! What several tests share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod bits;
pub mod encoders;
pub mod score;
pub mod sequence;
pub mod tiny;
pub mod vectors;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kernels::isa::Isa;
use model::{EmbedderOptions, Gguf, LoadError, LoadOptions, PoolSize, Precision, load, load_embedder};
use scheduler::{BatchIs, Embedder, KvDtype, ModelRunner, Vectors};

/// Tokens of a block in tests.
pub const BLOCK_TOKENS: usize = 32;

/// Holds off the other tests of this process: each uses all cores, and side by side they only spin.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A real model as users run it, with a pool of `n_blocks`.
pub fn runner(file: &str, n_threads: usize, n_blocks: usize) -> Box<dyn ModelRunner> {
    load_with(file, |options| {
        options.n_threads = n_threads;
        options.pool = PoolSize::Blocks(n_blocks);
    })
}

/// A real model with options of one's own.
pub fn load_with(file: &str, change: impl FnOnce(&mut LoadOptions)) -> Box<dyn ModelRunner> {
    load_file(&vectors::model_path(file), change)
}

/// A model with options of one's own.
pub fn load_file(path: &Path, change: impl FnOnce(&mut LoadOptions)) -> Box<dyn ModelRunner> {
    try_load(path, change).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`load_file`], for what may be refused.
pub fn try_load(
    path: &Path,
    change: impl FnOnce(&mut LoadOptions),
) -> Result<Box<dyn ModelRunner>, LoadError> {
    let mut options = LoadOptions {
        n_threads: 2,
        isa: Isa::detect(),
        block_tokens: BLOCK_TOKENS,
        kv_dtype: KvDtype::F16,
        pool: PoolSize::Blocks(100),
        ready_bytes: 0,
        precision: Precision::Fast,
    };
    change(&mut options);
    load(path, &options, &mut |_| ControlFlow::Continue(()))
}

/// An encoder.
pub fn embedder(path: &Path, n_threads: usize, precision: Precision) -> Box<dyn Embedder> {
    let options = EmbedderOptions { n_threads, isa: Isa::detect(), precision };
    let loaded = load_embedder(&Gguf::open(path).unwrap(), &options, &mut |_| ControlFlow::Continue(()));
    loaded.unwrap_or_else(|error| panic!("{error}"))
}

/// The vectors of texts in one batch, so many parts of it at a time.
pub fn vectors(embedder: &mut dyn Embedder, texts: &[&[u32]], n_parts: usize) -> Vec<Vec<f32>> {
    embedder.begin(texts).unwrap();
    let mut out = Vectors::default();
    while embedder.advance(n_parts, &mut out).unwrap() == BatchIs::UnderWay {}
    assert_eq!((out.width, out.values.len()), (embedder.spec().width, texts.len() * out.width));
    out.values.chunks(out.width).map(<[f32]>::to_vec).collect()
}
