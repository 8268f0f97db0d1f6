//! The rows in memory.

use crate::aligned::{AlignedBuf, Zeroable};
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
            if weights.ty().is_float() {
                f32 = true;
            } else {
                int8 = true;
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
    pub(super) form: Form,
    pub(super) n_rows: usize,
    pub(super) n_in: usize,
    /// As many as the rounding asks for.
    pub(super) planes: Vec<Plane>,
    pub(super) x: AlignedBuf<f32>,
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
}
