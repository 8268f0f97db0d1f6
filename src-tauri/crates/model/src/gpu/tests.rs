//! What runs on a GPU, on candle's CPU device: against the kernels, operation by operation and on the real models.

mod attention;
mod families;
mod meddled;
mod models;
mod proof;
mod runner;
mod shaders;

#[path = "../../tests/common/sequence.rs"]
#[allow(unreachable_pub, reason = "the tests in `tests/` have it too")]
mod sequence;
#[path = "../../tests/common/tiny.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests in `tests/` have it too")]
mod tiny;
#[path = "../../tests/common/vectors.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests in `tests/` have it too")]
mod vectors;

use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use kernels::isa::Isa;
use scheduler::{KvDtype, ModelRunner};

use super::backend::GpuBackend;
use super::load::{self, SetUp};
use super::one_line::one_line;
use super::weights::{DevicePack, Matrix};
use crate::cpu::load::load_open;
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::options::{GpuOptions, LoadOptions, PoolSize, Precision};
use crate::run::load::{Pack, StoredMatrix};
use crate::run::runner::Runner;

/// A generator of numbers, always the same ones.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Between −1 and 1.
    fn value(&mut self) -> f32 {
        self.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0
    }
}

fn options(n_blocks: usize) -> GpuOptions {
    GpuOptions { block_tokens: 32, kv_dtype: KvDtype::F16, pool: PoolSize::Blocks(n_blocks) }
}

fn on_device(gguf: &Gguf, options: &GpuOptions) -> Runner<GpuBackend> {
    load::runner(gguf, options, &Device::Cpu, &mut |_| ControlFlow::Continue(())).expect("a sound model")
}

/// As [`on_device`], with weights in the form that `pack` gives them.
fn packed_on_device(
    gguf: &Gguf,
    options: &GpuOptions,
    pack: &impl Pack<Matrix = Matrix, Vector = Tensor>,
) -> Runner<GpuBackend> {
    let set_up = load::set_up(gguf, options, &Device::Cpu, pack, &mut |_| ControlFlow::Continue(()));
    let SetUp { plan, weights, layout, backend } = set_up.map_err(drop).expect("a sound model");
    Runner::new(plan, weights, layout, backend)
}

/// Weights unpacked on the device, by `unpack`.
struct Unpacked<'a> {
    pack: DevicePack<'a>,
    unpack: fn(Matrix) -> candle_core::Result<Matrix>,
}

impl<'a> Unpacked<'a> {
    /// As floats, so that nothing is rounded that a GPU does not round.
    fn in_floats(pack: DevicePack<'a>) -> Self {
        Self { pack, unpack: |matrix| matrix.in_floats() }
    }

    /// As floats that half precision has, which is what Metal's kernels for many rows multiply.
    fn in_halves(pack: DevicePack<'a>) -> Self {
        Self { pack, unpack: |matrix| matrix.in_halves() }
    }
}

impl Pack for Unpacked<'_> {
    type Matrix = Matrix;
    type Vector = Tensor;

    fn matrix(
        &self,
        gguf: &Gguf,
        stored: &StoredMatrix<'_>,
        done: &mut dyn FnMut(usize) -> Result<(), Cause>,
    ) -> Result<Matrix, Cause> {
        let matrix = self.pack.matrix(gguf, stored, done)?;
        (self.unpack)(matrix).map_err(|error| Cause::Setup(one_line(&error)))
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor, String> {
        self.pack.vector(values)
    }
}

/// The kernels on the same file, set up alike, at the precision that rounds least.
fn by_kernels(gguf: &Gguf, options: &GpuOptions) -> Box<dyn ModelRunner> {
    let GpuOptions { block_tokens, kv_dtype, pool } = *options;
    let precision = Precision::Full;
    let options = LoadOptions {
        n_threads: 2,
        isa: Isa::detect(),
        block_tokens,
        kv_dtype,
        pool,
        ready_bytes: 0,
        precision,
    };
    load_open(gguf, &options, &mut |_| ControlFlow::Continue(())).expect("a sound model")
}

/// How far `got` is from `want` at most, as a share of the largest of `want`.
fn distance(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(0.0, |scale: f32, x| scale.max(x.abs()));
    let far = |(a, b): (&f32, &f32)| (a - b).abs();
    // Not `max`, which would lose a NaN.
    let worst =
        got.iter().zip(want).map(far).fold(0.0, |worst, x| if x > worst || x.is_nan() { x } else { worst });
    worst / scale
}
