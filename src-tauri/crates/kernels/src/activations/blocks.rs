//! Rows that are copied from other rows, and rows whose columns come 32 at a time.
#![allow(unsafe_code)]

use super::quantize::{Target, quantize_row};
use super::rows::{Activations, Form, Meta, Plane};
use crate::aligned::AlignedBuf;
use crate::isa::Isa;
use crate::threads::SharedMut;

impl Activations {
    /// Takes rows `rows` of `from`, in the form `form`, on the calling thread.
    ///
    /// # Panics
    /// When `from` is not in that form or has no such row; when memory is short.
    pub(crate) fn gather(&mut self, from: &Activations, form: Form, rows: &[u32]) {
        assert!(form.has_f32() <= from.form.has_f32(), "rows in form {:?} for {form:?}", from.form);
        assert!(form.has_int8() <= from.form.has_int8(), "rows in form {:?} for {form:?}", from.form);
        let n_in = from.n_in;
        let new = || Plane { q: AlignedBuf::empty(), meta: AlignedBuf::empty() };
        self.planes.resize_with(from.planes.len(), new);
        self.resize(form, rows.len() * n_in, n_in);
        if form.has_f32() {
            for (to, &row) in self.x.chunks_exact_mut(n_in).zip(rows) {
                to.copy_from_slice(&from.x()[row as usize * n_in..][..n_in]);
            }
        }
        if !form.has_int8() {
            return;
        }
        let (to_stride, from_stride) = (self.stride(), from.stride());
        assert!(rows.iter().all(|&row| (row as usize) < from.n_rows), "rows {rows:?} of {}", from.n_rows);
        for (to, from) in self.planes.iter_mut().zip(&from.planes) {
            let (to_q, from_q) = (to.q.as_chunks_mut::<32>().0, from.q.as_chunks::<32>().0);
            for block_idx in 0..n_in / 32 {
                let to_q = &mut to_q[block_idx * to_stride..][..rows.len()];
                let to_meta = &mut to.meta[block_idx * to_stride..][..rows.len()];
                let from_q = &from_q[block_idx * from_stride..];
                let from_meta = &from.meta[block_idx * from_stride..];
                for ((q, meta), &row) in to_q.iter_mut().zip(to_meta).zip(rows) {
                    (*q, *meta) = (from_q[row as usize], from_meta[row as usize]);
                }
            }
        }
    }

    /// Makes room for `n_rows` rows of `n_in` values, which workers then fill by blocks of 32 columns.
    ///
    /// # Panics
    /// As [`Activations::quantize`].
    pub(crate) fn fill_by_blocks(&mut self, form: Form, n_rows: usize, n_in: usize) -> BlockRows<'_> {
        self.resize(form, n_rows * n_in, n_in);
        let stride = self.stride();
        BlockRows {
            form,
            n_rows,
            n_in,
            stride,
            planes: self
                .planes
                .iter_mut()
                .map(|plane| (SharedMut::new(&mut plane.q), SharedMut::new(&mut plane.meta)))
                .collect(),
            x: SharedMut::new(&mut self.x),
        }
    }
}

/// Rows that workers fill, each by blocks of its own.
pub(crate) struct BlockRows<'a> {
    form: Form,
    n_rows: usize,
    n_in: usize,
    stride: usize,
    planes: Vec<(SharedMut<'a, i8>, SharedMut<'a, Meta>)>,
    x: SharedMut<'a, f32>,
}

impl BlockRows<'_> {
    /// Takes the values of column block `block_idx` of the rows from `first` on: 32 in `values` for each row, of which
    /// the last block may have fewer that count.
    ///
    /// # Safety
    /// Nobody else uses this block of these rows.
    ///
    /// # Panics
    /// When there is no such block or row.
    pub(crate) unsafe fn put(&self, isa: Isa, first: usize, block_idx: usize, values: &[f32]) {
        let (n, n_cols) = (values.len() / 32, self.n_in.saturating_sub(32 * block_idx).min(32));
        assert!(first + n <= self.n_rows && n_cols > 0, "{n} rows from {first} on, column block {block_idx}");
        if self.form.has_f32() {
            for (row, values) in (first..).zip(values.chunks_exact(32)) {
                let at = row * self.n_in + 32 * block_idx;
                // SAFETY: inside the rows, which are this worker's by the caller's promise.
                unsafe { self.x.range(at..at + n_cols) }.copy_from_slice(&values[..n_cols]);
            }
        }
        if self.form.has_int8() {
            let at = block_idx * self.stride + first;
            // SAFETY: `resize` made room for whole blocks of all rows; these are this worker's.
            unsafe {
                let target = |i: usize| Target {
                    q: self.planes[i].0.as_ptr().add(32 * at),
                    meta: self.planes[i].1.as_ptr().add(at),
                };
                let rest = (self.planes.len() > 1).then(|| target(1));
                // The same column block of consecutive rows stands together.
                quantize_row(isa, values, target(0), rest, 1);
            }
        }
    }
}
