//! Filling the rows, with the small operation that comes before a product done on the way: its result stays in
//! the first-level cache instead of going through memory.
#![allow(unsafe_code)]

use super::gate::{Gate, gate_values, gelu_tanh_values, square_positive};
use super::quantize::{Target, quantize_row};
use super::rows::{Activations, Form, Plane};
use crate::aligned::{AlignedBuf, Zeroable};
use crate::isa::Isa;
use crate::ops::norm::norm_in_place;
use crate::simd::{Simd, simd_dispatch};
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
    Gated(Gate, GateUp<'a>),
    SquaredRelu { x: &'a [f32] },
    GeluTanh { x: &'a [f32] },
}

impl<'a> Source<'a> {
    /// The values of row `row`, put into `room` if they have to be worked out.
    fn row<'b>(&self, isa: Isa, row: usize, room: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        let range = row * room.len()..(row + 1) * room.len();
        match *self {
            Source::Copy { x } => return &x[range],
            Source::RmsNorm { x, norm } => {
                room.copy_from_slice(&x[range]);
                // SAFETY: `resize` took the row's length from the weights'.
                unsafe { norm_row(isa, room, norm) }
            }
            Source::Gated(function, GateUp { gate, up }) => {
                gate_values(isa, function, &gate[range.clone()], &up[range], room);
            }
            Source::SquaredRelu { x } => square_positive(isa, &x[range], room),
            Source::GeluTanh { x } => gelu_tanh_values(isa, &x[range], room),
        }
        room
    }
}

simd_dispatch! { unsafe fn norm_row(x: &mut [f32], norm: RmsNorm<'_>) = norm_row_on }

/// Norms one row.
///
/// # Safety
/// The instruction set of `S`. `x`, the weights and `out` have one length.
#[inline(always)]
unsafe fn norm_row_on<S: Simd>(x: &mut [f32], norm: RmsNorm<'_>) {
    // SAFETY: the caller's promise.
    unsafe { norm_in_place::<S>(x, norm.weight, norm.eps) }
}

impl Activations {
    /// Takes the rows of `x`, `[n_rows, n_in]`.
    ///
    /// # Panics
    /// When `x` is not whole rows; when `form` asks for bytes and `n_in` is not a multiple of 32; when memory is
    /// short. The same holds for the other fillers.
    pub fn quantize(&mut self, threads: &Threads, isa: Isa, form: Form, x: &[f32], n_in: usize) {
        self.resize(form, x.len(), n_in);
        self.fill(threads, isa, Source::Copy { x });
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
        self.fill(threads, isa, Source::RmsNorm { x, norm });
    }

    /// As [`Activations::gated_quantize`] with [`Gate::Silu`].
    pub fn silu_mul_quantize(
        &mut self,
        threads: &Threads,
        isa: Isa,
        form: Form,
        gate_up: GateUp<'_>,
        n_in: usize,
    ) {
        self.gated_quantize(threads, isa, form, Gate::Silu, gate_up, n_in);
    }

    /// As [`Activations::gated_quantize`] with [`Gate::GeluTanh`].
    pub fn gelu_tanh_mul_quantize(
        &mut self,
        threads: &Threads,
        isa: Isa,
        form: Form,
        gate_up: GateUp<'_>,
        n_in: usize,
    ) {
        self.gated_quantize(threads, isa, form, Gate::GeluTanh, gate_up, n_in);
    }

    /// Takes `function(gate)` × `up`, element by element, both `[n_rows, n_in]`.
    pub fn gated_quantize(
        &mut self,
        threads: &Threads,
        isa: Isa,
        form: Form,
        function: Gate,
        gate_up: GateUp<'_>,
        n_in: usize,
    ) {
        assert_eq!(gate_up.gate.len(), gate_up.up.len(), "gate and up");
        self.resize(form, gate_up.gate.len(), n_in);
        self.fill(threads, isa, Source::Gated(function, gate_up));
    }

    /// Takes max(`x`, 0)², `[n_rows, n_in]`.
    pub fn squared_relu_quantize(&mut self, threads: &Threads, isa: Isa, form: Form, x: &[f32], n_in: usize) {
        self.resize(form, x.len(), n_in);
        self.fill(threads, isa, Source::SquaredRelu { x });
    }

    /// Takes gelu(`x`) in its tanh form, `[n_rows, n_in]`.
    pub fn gelu_tanh_quantize(&mut self, threads: &Threads, isa: Isa, form: Form, x: &[f32], n_in: usize) {
        self.resize(form, x.len(), n_in);
        self.fill(threads, isa, Source::GeluTanh { x });
    }

    /// Makes room for `n_values / n_in` rows.
    pub(crate) fn resize(&mut self, form: Form, n_values: usize, n_in: usize) {
        assert!(n_in > 0 && n_values.is_multiple_of(n_in), "{n_values} values are not rows of {n_in}");
        if form.has_int8() {
            assert!(n_in.is_multiple_of(32), "{n_in} columns are no multiple of 32");
        }
        (self.form, self.n_rows, self.n_in) = (form, n_values / n_in, n_in);
        let n_blocks = if form.has_int8() { self.stride() * (n_in / 32) } else { 0 };
        for plane in &mut self.planes {
            grow(&mut plane.q, n_blocks * 32);
            grow(&mut plane.meta, n_blocks);
        }
        grow(&mut self.x, if form.has_f32() { n_values } else { 0 });
    }

    /// Rows from one column block to the next, the gap included.
    pub(crate) fn stride(&self) -> usize {
        if self.n_rows < 8 { self.n_rows } else { self.n_rows.next_multiple_of(4) + 4 }
    }

    pub(super) fn fill(&mut self, threads: &Threads, isa: Isa, source: Source<'_>) {
        let (form, n_rows, n_in, stride) = (self.form, self.n_rows, self.n_in, self.stride());
        let planes: Vec<_> = self
            .planes
            .iter_mut()
            .map(|plane| (SharedMut::new(&mut plane.q), SharedMut::new(&mut plane.meta)))
            .collect();
        let kept = SharedMut::new(&mut self.x);
        let grain = if n_rows * n_in < MIN_SPLIT { n_rows } else { n_rows.div_ceil(4 * threads.n()).min(16) };
        threads.for_each(n_rows, grain, |rows| {
            let mut room = vec![0.0; n_in];
            for row in rows {
                let values = source.row(isa, row, &mut room);
                if form.has_f32() {
                    // SAFETY: each row is handed out once.
                    unsafe { kept.range(row * n_in..(row + 1) * n_in) }.copy_from_slice(values);
                }
                if form.has_int8() {
                    // SAFETY: each row is handed out once; a row's blocks are its own, `stride` rows apart, and
                    // `resize` made room for all of them.
                    unsafe {
                        let target = |i: usize| Target {
                            q: planes[i].0.as_ptr().add(32 * row),
                            meta: planes[i].1.as_ptr().add(row),
                        };
                        let rest = (planes.len() > 1).then(|| target(1));
                        quantize_row(isa, values, target(0), rest, stride);
                    }
                }
            }
        });
    }

    /// The form the rows are in.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// The rows' bytes, and those of what the first rounding left.
    pub(crate) fn planes(&self) -> &[Plane] {
        &self.planes
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
