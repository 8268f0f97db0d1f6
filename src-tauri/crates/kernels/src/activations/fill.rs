//! Filling the rows, with the small operation that comes before a product done on the way: its result stays in
//! the first-level cache instead of going through memory.
#![allow(unsafe_code)]

use super::quantize::quantize_row;
use super::{Activations, Form, Meta};
use crate::aligned::{AlignedBuf, Zeroable};
use crate::isa::Isa;
use crate::threads::{SharedMut, Threads};

/// Values from which a split over workers pays.
const MIN_SPLIT: usize = 8 * 1024;

/// A norm by the root mean square.
#[derive(Clone, Copy)]
pub struct RmsNorm<'a> {
    /// What the normed values are multiplied with: `[n_in]`.
    pub weight: &'a [f32],
    /// What is added to the mean square.
    pub eps: f32,
}

/// The two halves of a gated feed-forward layer, both `[n_rows, n_in]`.
#[derive(Clone, Copy)]
pub struct GateUp<'a> {
    /// Goes through the activation function.
    pub gate: &'a [f32],
    /// Is multiplied with the result.
    pub up: &'a [f32],
}

/// Where the values of the rows come from.
pub(super) enum Source<'a> {
    Copy { x: &'a [f32] },
    RmsNorm { x: &'a [f32], norm: RmsNorm<'a> },
    SiluMul(GateUp<'a>),
    GeluTanhMul(GateUp<'a>),
}

impl Source<'_> {
    /// Writes the values of row `row`.
    fn write(&self, isa: Isa, row: usize, out: &mut [f32]) {
        let range = row * out.len()..(row + 1) * out.len();
        let _ = isa;
        match self {
            Source::Copy { x } => out.copy_from_slice(&x[range]),
            Source::RmsNorm { x, norm } => {
                let x = &x[range];
                let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
                let scale = 1.0 / (mean + norm.eps).sqrt();
                out.iter_mut().zip(x).zip(norm.weight).for_each(|((y, x), w)| *y = x * scale * w);
            }
            Source::SiluMul(GateUp { gate, up }) => {
                let rows = out.iter_mut().zip(&gate[range.clone()]).zip(&up[range]);
                rows.for_each(|((y, g), u)| *y = g / (1.0 + (-g).exp()) * u);
            }
            Source::GeluTanhMul(GateUp { gate, up }) => {
                let rows = out.iter_mut().zip(&gate[range.clone()]).zip(&up[range]);
                rows.for_each(|((y, g), u)| {
                    let inner = 0.797_884_6 * (g + 0.044_715 * g * g * g);
                    *y = 0.5 * g * (1.0 + inner.tanh()) * u;
                });
            }
        }
    }
}

impl Activations {
    /// Makes room for `n_values / n_in` rows.
    pub(super) fn resize(&mut self, form: Form, n_values: usize, n_in: usize) {
        assert!(n_in > 0 && n_values.is_multiple_of(n_in), "{n_values} values are not rows of {n_in}");
        if form.has_int8() {
            assert!(n_in.is_multiple_of(32), "{n_in} columns are no multiple of 32");
        }
        (self.form, self.n_rows, self.n_in) = (form, n_values / n_in, n_in);
        let n_blocks = if form.has_int8() { self.stride() * (n_in / 32) } else { 0 };
        grow(&mut self.q, n_blocks * 32);
        grow(&mut self.meta, n_blocks);
        grow(&mut self.x, if form.has_f32() { n_values } else { 0 });
    }

    /// Rows from one column block to the next, the gap included.
    pub(crate) fn stride(&self) -> usize {
        if self.n_rows < 8 { self.n_rows } else { self.n_rows.next_multiple_of(4) + 4 }
    }

    pub(super) fn fill(&mut self, threads: &Threads, isa: Isa, source: Source<'_>) {
        let (form, n_rows, n_in, stride) = (self.form, self.n_rows, self.n_in, self.stride());
        let q = SharedMut::new(&mut self.q);
        let meta = SharedMut::new(&mut self.meta);
        let kept = SharedMut::new(&mut self.x);
        let grain = if n_rows * n_in < MIN_SPLIT { n_rows } else { n_rows.div_ceil(4 * threads.n()).min(16) };
        threads.for_each(n_rows, grain, |rows| {
            let mut values = vec![0.0; n_in];
            for row in rows {
                source.write(isa, row, &mut values);
                if form.has_f32() {
                    // SAFETY: each row is handed out once.
                    unsafe { kept.range(row * n_in..(row + 1) * n_in) }.copy_from_slice(&values);
                }
                if form.has_int8() {
                    // SAFETY: each row is handed out once; a row's blocks are its own, `stride` rows apart, and
                    // `resize` made room for all of them.
                    unsafe {
                        quantize_row(isa, &values, q.as_ptr().add(32 * row), meta.as_ptr().add(row), stride)
                    }
                }
            }
        });
    }

    /// The form the rows are in.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// The bytes: 32 of row r and column block b at `32 (b stride + r)`.
    pub(crate) fn q(&self) -> &[i8] {
        &self.q
    }

    /// What belongs to them: at `b stride + r`.
    pub(crate) fn meta(&self) -> &[Meta] {
        &self.meta
    }

    /// The values as they are, `[n_rows, n_in]`.
    pub(crate) fn x(&self) -> &[f32] {
        &self.x[..self.n_rows * self.n_in]
    }
}

/// At least `len` elements, of which none keeps its value.
fn grow<T: Zeroable>(buf: &mut AlignedBuf<T>, len: usize) {
    if buf.len() < len {
        *buf = AlignedBuf::empty();
        *buf = AlignedBuf::zeroed(len).expect("memory for the activations of one step");
    }
}
