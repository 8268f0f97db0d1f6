//! The input rows of a matrix product, in the form that the kernels read.
//!
//! Each 32 values of a row become 32 signed bytes and a scale; the sums of the bytes pay for the offsets and
//! minimums of the weights. Rows of the same 32 columns stand next to each other, because a kernel holds the
//! weights of 32 columns in registers while the rows stream past:
//!
//! ```text
//! q:     columns 0..32: [row 0: 32 B][row 1]..[row n][gap]   columns 32..64: [row 0]..
//! meta:  the same with 16 bytes instead of 32
//! ```
//!
//! The gap keeps the distance between two columns of a row off a power of two, which would map them to the
//! same few cache sets. Float weights read the rows as they are.
//!
//! [`Rounding::Bits16`] adds a second plane of the same shape: what the first rounding left of each value, as bytes
//! that count a 254th of the first plane's. A kernel passes over it as over the first, so a product of 16 bits costs
//! two of 8 and reads its weights once.
//!
//! A block whose values are not all finite gets NaN as its scale: the outputs of that row become NaN, those of
//! other rows do not.

mod fill;
mod quantize;

pub use fill::{GateUp, RmsNorm};

use crate::aligned::{AlignedBuf, Zeroable};
use crate::ggml::GgmlType;
use crate::isa::Isa;
use crate::threads::Threads;
use crate::weights::Weights;

/// Which form of the rows a product needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Bytes with scales, for quantised weights.
    Int8,
    /// As they are, for float weights.
    F32,
    /// For products with both.
    Both,
}

impl Form {
    /// What products with all of `weights` need.
    pub fn of<'a>(weights: impl IntoIterator<Item = &'a Weights>) -> Form {
        let (mut int8, mut f32) = (false, false);
        for weights in weights {
            match weights.ty() {
                GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => f32 = true,
                _ => int8 = true,
            }
        }
        match (int8, f32) {
            (true, true) => Form::Both,
            (false, true) => Form::F32,
            (_, false) => Form::Int8,
        }
    }

    pub(crate) fn has_int8(self) -> bool {
        self != Form::F32
    }

    pub(crate) fn has_f32(self) -> bool {
        self != Form::Int8
    }
}

/// How finely values are rounded for quantised weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rounding {
    /// To 8 bits, as llama.cpp does.
    #[default]
    Bits8,
    /// To 16 bits: for about twice the arithmetic, an error 254 times smaller.
    Bits16,
}

impl Rounding {
    /// Planes of bytes that a row has.
    fn n_planes(self) -> usize {
        match self {
            Rounding::Bits8 => 1,
            Rounding::Bits16 => 2,
        }
    }
}

/// What belongs to the 32 bytes of a row.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct Meta {
    /// What a byte counts.
    pub(crate) scale: f32,
    /// `scale` times the sum of the bytes.
    pub(crate) sum: f32,
    /// Minus the sum of the bytes.
    pub(crate) neg_sum: i32,
    /// Minus the sum of the first 16 bytes.
    pub(crate) neg_sum_low: i32,
}

// SAFETY: numbers.
#[allow(unsafe_code)]
unsafe impl Zeroable for Meta {}

/// Bytes of all rows with what belongs to them.
pub(crate) struct Plane {
    /// 32 of row r and column block b at `32 (b stride + r)`.
    pub(crate) q: AlignedBuf<i8>,
    /// At `b stride + r`.
    pub(crate) meta: AlignedBuf<Meta>,
}

impl Plane {
    /// Where the bytes of block and row `i` are, and what belongs to them.
    ///
    /// # Safety
    /// There is such a block and row.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn at(&self, i: usize) -> (*const i8, *const Meta) {
        // SAFETY: the caller's promise.
        unsafe { (self.q.as_ptr().add(32 * i), self.meta.as_ptr().add(i)) }
    }
}

/// Input rows `[n_rows, n_in]`, quantised. The memory is kept from one step to the next.
pub struct Activations {
    form: Form,
    n_rows: usize,
    n_in: usize,
    /// As many as the rounding asks for.
    planes: Vec<Plane>,
    x: AlignedBuf<f32>,
}

impl Default for Activations {
    fn default() -> Self {
        Activations::new(Rounding::default())
    }
}

impl Activations {
    /// No rows; those to come are rounded as `rounding` says.
    pub fn new(rounding: Rounding) -> Activations {
        let plane = |_| Plane { q: AlignedBuf::empty(), meta: AlignedBuf::empty() };
        Activations {
            form: Form::Both,
            n_rows: 0,
            n_in: 0,
            planes: (0..rounding.n_planes()).map(plane).collect(),
            x: AlignedBuf::empty(),
        }
    }

    /// Rows held.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Values of a row.
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Takes the rows of `x`, `[n_rows, n_in]`.
    ///
    /// # Panics
    /// When `x` is not whole rows; when `form` asks for bytes and `n_in` is not a multiple of 32; when memory is
    /// short. The same holds for the other fillers.
    pub fn quantize(&mut self, threads: &Threads, isa: Isa, form: Form, x: &[f32], n_in: usize) {
        self.resize(form, x.len(), n_in);
        self.fill(threads, isa, fill::Source::Copy { x });
    }

    /// Takes the rows of `x`, `[n_rows, weight.len()]`, each divided by its root mean square (with `eps` under
    /// the root) and multiplied by `weight`.
    pub fn rms_norm_quantize(
        &mut self,
        threads: &Threads,
        isa: Isa,
        form: Form,
        x: &[f32],
        norm: RmsNorm<'_>,
    ) {
        self.resize(form, x.len(), norm.weight.len());
        self.fill(threads, isa, fill::Source::RmsNorm { x, norm });
    }

    /// Takes silu(`gate`) × `up`, element by element, both `[n_rows, n_in]`.
    pub fn silu_mul_quantize(
        &mut self,
        threads: &Threads,
        isa: Isa,
        form: Form,
        gate_up: GateUp<'_>,
        n_in: usize,
    ) {
        assert_eq!(gate_up.gate.len(), gate_up.up.len(), "gate and up");
        self.resize(form, gate_up.gate.len(), n_in);
        self.fill(threads, isa, fill::Source::SiluMul(gate_up));
    }

    /// Takes gelu(`gate`) × `up` with the tanh form of gelu, both `[n_rows, n_in]`.
    pub fn gelu_tanh_mul_quantize(
        &mut self,
        threads: &Threads,
        isa: Isa,
        form: Form,
        gate_up: GateUp<'_>,
        n_in: usize,
    ) {
        assert_eq!(gate_up.gate.len(), gate_up.up.len(), "gate and up");
        self.resize(form, gate_up.gate.len(), n_in);
        self.fill(threads, isa, fill::Source::GeluTanhMul(gate_up));
    }
}

#[cfg(test)]
mod tests;
