//! Operations between the products that candle's core lacks: norm, softmax, rotation. Each has a form for the CPU and
//! one for Metal.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

#[cfg(all(feature = "metal", target_os = "macos"))]
use super::metal;
use super::shaders::Shaders;
use crate::plan::rope_plan::RopePairs;

/// `cap · tanh(x / cap)`.
pub(super) fn softcap(x: &Tensor, cap: f32) -> Result<Tensor> {
    let cap = f64::from(cap);
    x.affine(1.0 / cap, 0.0)?.tanh()?.affine(cap, 0.0)
}

/// Each row of `x` `[n, n_values]` over its root mean square, times `weight`.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    x.apply_op2_no_bwd(weight, &RmsNorm { eps })
}

/// The softmax of each innermost row.
pub(super) fn softmax(x: &Tensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Softmax)
}

/// Turn the pairs of each head of `x` `[n_tokens, n_heads, dim]` by its token's entry in `table`,
/// `[n_tokens, 2, n_pairs]`: cosines, then sines.
pub(super) fn rotate(shaders: &Shaders, pairs: RopePairs, x: &Tensor, table: &Tensor) -> Result<Tensor> {
    x.apply_op2_no_bwd(table, &Rotate { pairs, shaders })
}

/// Each innermost row of `x` by the Hadamard matrix, as the kernels' [`hadamard`](kernels::kv::hadamard).
pub(super) fn hadamard(shaders: &Shaders, x: &Tensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Hadamard { shaders })
}

/// The values of a contiguous tensor.
pub(super) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    contiguous(storage.as_slice()?, layout)
}

/// The numbers of a contiguous tensor.
pub(super) fn ids<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [u32]> {
    contiguous(storage.as_slice()?, layout)
}

/// The whole of a buffer of bytes.
pub(super) fn bytes(storage: &mut CpuStorage) -> Result<&mut [u8]> {
    match storage {
        CpuStorage::U8(bytes) => Ok(bytes),
        _ => bail!("a buffer of other values than bytes"),
    }
}

fn contiguous<'a, T>(values: &'a [T], layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("a tensor of shape {:?} and strides {:?}", layout.shape(), layout.stride()),
    }
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_l: &Layout,
        weight: &CpuStorage,
        weight_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (floats(x, x_l)?, floats(weight, weight_l)?);
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(weight.len()) {
            let mean = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
            let scale = 1.0 / (mean + self.eps).sqrt();
            out.extend(row.iter().zip(weight).map(|(x, weight)| x * scale * weight));
        }
        Ok((CpuStorage::F32(out), x_l.shape().clone()))
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    fn metal_fwd(
        &self,
        x: &candle_core::MetalStorage,
        x_l: &Layout,
        weight: &candle_core::MetalStorage,
        weight_l: &Layout,
    ) -> Result<(candle_core::MetalStorage, Shape)> {
        Ok((metal::rms_norm((x, x_l), (weight, weight_l), self.eps)?, x_l.shape().clone()))
    }
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = floats(x, x_l)?.to_vec();
        let n = x_l.dims().last().copied().unwrap_or(1);
        for row in out.chunks_exact_mut(n) {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut().for_each(|x| *x = (*x - max).exp());
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        }
        Ok((CpuStorage::F32(out), x_l.shape().clone()))
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    fn metal_fwd(
        &self,
        x: &candle_core::MetalStorage,
        x_l: &Layout,
    ) -> Result<(candle_core::MetalStorage, Shape)> {
        Ok((metal::softmax((x, x_l))?, x_l.shape().clone()))
    }
}

struct Rotate<'a> {
    pairs: RopePairs,
    #[cfg_attr(
        not(all(feature = "metal", target_os = "macos")),
        expect(dead_code, reason = "Metal's programs")
    )]
    shaders: &'a Shaders,
}

impl CustomOp2 for Rotate<'_> {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_l: &Layout,
        table: &CpuStorage,
        table_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (mut out, table) = (floats(x, x_l)?.to_vec(), floats(table, table_l)?);
        let ((_, n_heads, dim), (_, _, n_pairs)) = (x_l.shape().dims3()?, table_l.shape().dims3()?);
        for (i, head) in out.chunks_exact_mut(dim).enumerate() {
            let (cosines, sines) = table[i / n_heads * 2 * n_pairs..][..2 * n_pairs].split_at(n_pairs);
            for (pair, (cos, sin)) in cosines.iter().zip(sines).enumerate() {
                let (a, b) = match self.pairs {
                    RopePairs::Interleaved => (2 * pair, 2 * pair + 1),
                    RopePairs::SplitHalf => (pair, pair + n_pairs),
                };
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
            }
        }
        Ok((CpuStorage::F32(out), x_l.shape().clone()))
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    fn metal_fwd(
        &self,
        x: &candle_core::MetalStorage,
        x_l: &Layout,
        table: &candle_core::MetalStorage,
        table_l: &Layout,
    ) -> Result<(candle_core::MetalStorage, Shape)> {
        let out = metal::rotate(self.shaders.metal()?, self.pairs, (x, x_l), (table, table_l))?;
        Ok((out, x_l.shape().clone()))
    }
}

struct Hadamard<'a> {
    #[cfg_attr(
        not(all(feature = "metal", target_os = "macos")),
        expect(dead_code, reason = "Metal's programs")
    )]
    shaders: &'a Shaders,
}

impl CustomOp1 for Hadamard<'_> {
    fn name(&self) -> &'static str {
        "hadamard"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = floats(x, x_l)?.to_vec();
        let dim = x_l.dims().last().copied().unwrap_or(1);
        out.chunks_exact_mut(dim).for_each(kernels::kv::hadamard);
        Ok((CpuStorage::F32(out), x_l.shape().clone()))
    }

    #[cfg(all(feature = "metal", target_os = "macos"))]
    fn metal_fwd(
        &self,
        x: &candle_core::MetalStorage,
        x_l: &Layout,
    ) -> Result<(candle_core::MetalStorage, Shape)> {
        Ok((metal::hadamard(self.shaders.metal()?, (x, x_l))?, x_l.shape().clone()))
    }
}
