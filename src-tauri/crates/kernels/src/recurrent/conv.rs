//! A causal convolution over tokens, each channel by itself, of a token's input and the few before it.
//!
//! ```text
//! inputs   │ column 0 │ column 1 │ column 2 │ token 0 │ token 1 │ …      columns: what was kept, zeros before any token
//! out 0      tap 0      tap 1      tap 2      tap 3                      one chain of additions, the oldest input first
//! out 1                 tap 0      tap 1      tap 2     tap 3
//! ```
#![allow(unsafe_code)]

use crate::isa::Isa;
use crate::kv::KvArena;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::state::{StateLayer, StateRow};
use crate::threads::{SharedMut, Threads};
use crate::vmath;

/// More than any model's convolution is wide.
pub const MAX_TAPS: usize = 16;

/// Channels that a worker takes at a time.
const SPAN: usize = 512;

/// The convolution of a layer.
#[derive(Debug, Clone, Copy)]
pub struct Conv<'a> {
    /// `[n_taps, n_channels]`, the tap of the oldest input first; one more than columns are kept.
    pub taps: &'a [f32],
    /// Added to each channel.
    pub bias: Option<&'a [f32]>,
    /// What the sums go through.
    pub then: Then,
}

/// What a convolution's sums go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// x · sigmoid(x).
    Silu,
}

/// Some neighbouring channels of rows that have more.
#[derive(Debug, Clone, Copy)]
pub struct Channels<'a> {
    /// `[n_tokens, width]`
    pub values: &'a [f32],
    /// Values of a token.
    pub width: usize,
    /// The first channel that is meant; all that are needed follow.
    pub first: usize,
}

/// Convolves the inputs `x` of `rows` into `out`, `[n_tokens, n_channels]`, and leaves in their states the last inputs,
/// as many as the layer has columns.
///
/// # Panics
/// When the layer does not fit the arena or the rows, or a slice has another length than these ask for.
#[expect(clippy::too_many_arguments, reason = "the operation's inputs, none of which belong together")]
pub fn convolve(
    threads: &Threads,
    isa: Isa,
    arena: &mut KvArena,
    layer: &StateLayer,
    conv: &Conv<'_>,
    rows: &[StateRow<'_>],
    x: Channels<'_>,
    out: &mut [f32],
) {
    let n_tokens = layer.check(arena, rows);
    let (n_channels, n_taps) = (layer.column_values(), layer.n_columns() + 1);
    assert!((1..=MAX_TAPS).contains(&n_taps), "a convolution of {n_taps} taps");
    assert_eq!(conv.taps.len(), n_taps * n_channels, "taps of {n_channels} channels");
    assert!(
        conv.bias.is_none_or(|bias| bias.len() == n_channels),
        "a bias for each of {n_channels} channels"
    );
    assert!(x.first + n_channels <= x.width, "{n_channels} channels from {} of {}", x.first, x.width);
    assert_eq!(x.values.len(), n_tokens * x.width, "inputs of {n_tokens} tokens");
    assert_eq!(out.len(), n_tokens * n_channels, "outputs of {n_tokens} tokens");
    let mut firsts = Vec::with_capacity(rows.len());
    let mut n_before = 0;
    for row in rows {
        firsts.push(n_before);
        n_before += row.n_tokens;
    }
    let n_spans = n_channels.div_ceil(SPAN);
    let job = Job { arena, layer, conv, x, out: SharedMut::new(out) };
    threads.for_each(rows.len() * n_spans, 1, |units| {
        for (row_idx, span) in units.map(|unit| (unit / n_spans, unit % n_spans)) {
            let channels = span * SPAN..n_channels.min((span + 1) * SPAN);
            let piece = Piece { row: &rows[row_idx], first: firsts[row_idx], start: channels.start };
            // SAFETY: all is checked above; each row's channels are one worker's, in its columns as in `out`.
            unsafe { convolve_span(isa, &job, &piece, channels.len()) };
        }
    });
}

/// The operands of a call, as the workers see them.
struct Job<'a> {
    arena: &'a KvArena,
    layer: &'a StateLayer,
    conv: &'a Conv<'a>,
    x: Channels<'a>,
    out: SharedMut<'a, f32>,
}

/// Some channels of a row.
struct Piece<'a> {
    row: &'a StateRow<'a>,
    /// Packed index of the row's first token.
    first: usize,
    /// The first channel.
    start: usize,
}

/// What channels are before any token.
static ZEROS: [f32; SPAN] = [0.0; SPAN];

impl Job<'_> {
    /// The piece's input number `idx`, of which the first are its columns.
    ///
    /// # Safety
    /// The call is checked, and there are so many inputs.
    unsafe fn input(&self, piece: &Piece<'_>, idx: usize) -> *const f32 {
        match idx.checked_sub(self.layer.n_columns()) {
            Some(token) => {
                let at = (piece.first + token) * self.x.width + self.x.first + piece.start;
                self.x.values[at..].as_ptr()
            }
            None if piece.row.begins() => ZEROS.as_ptr(),
            // SAFETY: the caller's promise.
            None => unsafe { self.layer.column(self.arena, piece.row.blocks, idx).add(piece.start) },
        }
    }

    /// Copy the inputs that follow the first `n_tokens` tokens' to the columns of the state in `blocks`.
    ///
    /// # Safety
    /// As [`Job::input`]; nobody else uses these channels of the columns.
    unsafe fn keep(&self, piece: &Piece<'_>, n_tokens: usize, blocks: &[u32], n: usize) {
        for column in 0..self.layer.n_columns() {
            // SAFETY: the caller's promise. A column is read before it is written: what goes to it comes from a later one.
            unsafe {
                let to = self.layer.column(self.arena, blocks, column).add(piece.start);
                std::ptr::copy(self.input(piece, n_tokens + column), to, n);
            }
        }
    }
}

simd_dispatch! {
    /// Convolves `n` channels of a row, and keeps their last inputs.
    ///
    /// # Safety
    /// The call is checked, the channels exist and are this thread's.
    unsafe fn convolve_span(job: &Job<'_>, piece: &Piece<'_>, n: usize) = convolve_span_on
}

/// What [`convolve_span`] does, with one instruction set.
///
/// # Safety
/// The instruction set of `S`. The promises of [`convolve_span`].
#[inline(always)]
unsafe fn convolve_span_on<S: Simd>(job: &Job<'_>, piece: &Piece<'_>, n: usize) {
    let (n_channels, n_taps) = (job.layer.column_values(), job.layer.n_columns() + 1);
    let mut inputs = [std::ptr::null::<f32>(); MAX_TAPS];
    let inputs = &mut inputs[..n_taps];
    for token in 0..piece.row.n_tokens {
        let at = (piece.first + token) * n_channels + piece.start;
        // SAFETY: the caller's promises; these channels of this token are in no other range.
        unsafe {
            for (tap, input) in inputs.iter_mut().enumerate() {
                *input = job.input(piece, token + tap);
            }
            let out = job.out.range(at..at + n);
            channels::<S>(job.conv, inputs, (piece.start, n_channels), out);
        }
    }
    // SAFETY: the caller's promises. The state itself comes last, because saves have its columns too.
    unsafe {
        for save in &piece.row.saves {
            job.keep(piece, save.n_tokens, save.blocks, n);
        }
        job.keep(piece, piece.row.n_tokens, piece.row.blocks, n);
    }
}

/// The channels of one token from `start` of `n_channels` on.
///
/// # Safety
/// The instruction set of `S`; each of `inputs` is valid for as many values as `out` has.
#[inline(always)]
unsafe fn channels<S: Simd>(
    conv: &Conv<'_>,
    inputs: &[*const f32],
    (start, n_channels): (usize, usize),
    out: &mut [f32],
) {
    let (groups, rest) = (out.len() / LANES, out.len() % LANES);
    // SAFETY: groups of lanes within the channels; the rest goes through copies.
    unsafe {
        let taps = conv.taps.as_ptr().add(start);
        let bias = conv.bias.map(|bias| bias.as_ptr().add(start));
        for at in (0..groups * LANES).step_by(LANES) {
            let mut sum = match bias {
                Some(bias) => S::load(bias.add(at)),
                None => S::zero(),
            };
            for (tap, input) in inputs.iter().enumerate() {
                sum = S::fma(S::load(input.add(at)), S::load(taps.add(tap * n_channels + at)), sum);
            }
            S::store(out.as_mut_ptr().add(at), end::<S>(conv.then, sum));
        }
        if rest > 0 {
            let at = groups * LANES;
            let mut sum = match bias {
                Some(bias) => padded::<S>(bias.add(at), rest),
                None => S::zero(),
            };
            for (tap, input) in inputs.iter().enumerate() {
                let weights = padded::<S>(taps.add(tap * n_channels + at), rest);
                sum = S::fma(padded::<S>(input.add(at), rest), weights, sum);
            }
            let mut lanes = [0f32; LANES];
            S::store(lanes.as_mut_ptr(), end::<S>(conv.then, sum));
            out[at..].copy_from_slice(&lanes[..rest]);
        }
    }
}

/// What sums become.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn end<S: Simd>(then: Then, sum: S::V) -> S::V {
    match then {
        Then::Nothing => sum,
        // SAFETY: the caller's promise.
        Then::Silu => unsafe { vmath::silu::<S>(sum) },
    }
}

/// The `n` values at `from`, and zeros.
///
/// # Safety
/// The instruction set of `S`; `from` is valid for `n` values, which are fewer than lanes.
#[inline(always)]
unsafe fn padded<S: Simd>(from: *const f32, n: usize) -> S::V {
    let mut lanes = [0f32; LANES];
    // SAFETY: the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
        S::load(lanes.as_ptr())
    }
}

#[cfg(test)]
mod tests;
