//! Mamba-2 (Dao and Gu 2024, "Transformers are SSMs", arXiv 2405.21060): each head keeps a matrix, which decays with
//! every token, takes in the token's input where its B says, and is read by its C.
//!
//! ```text
//! h ← decay · h + (step · x) ⊗ B                 h: [head_dim, n_states]; step and decay: of the token and the head
//! out = h C + skip · x
//!
//! a head in its block   panels of 16 inputs: [head_dim / 16][n_states][16] f32, so that sixteen lanes run down all states
//! ```
//!
//! A panel's values change by their own alone, so each is done for all tokens of a row while it is in the first cache, and
//! no sum goes across lanes. A sum goes through all states in their order, so how rows are cut changes no bits.
#![allow(unsafe_code)]

use crate::isa::Isa;
use crate::kv::KvArena;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::state::{StateLayer, StateRow};
use crate::threads::{SharedMut, Threads};

pub use steps::{TokenSteps, prepare};

mod steps;

/// Panels that are done together: both are in the smallest first cache, and the sums of both hide the latency of each.
const PANELS: usize = 2;

/// The heads of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanShape {
    /// Heads.
    pub n_heads: usize,
    /// Values of a head's input and output, whole lanes: see [`ScanShape::HEAD_DIM_UNIT`].
    pub head_dim: usize,
    /// Groups of neighbouring heads that have B and C in common; divides `n_heads`.
    pub n_groups: usize,
    /// Values of a B and of a C.
    pub n_states: usize,
}

impl ScanShape {
    /// `head_dim` is a multiple of this.
    pub const HEAD_DIM_UNIT: usize = LANES;

    /// Values of a head's state.
    pub fn head_values(&self) -> usize {
        self.head_dim * self.n_states
    }

    /// Values of a token's inputs, and of its outputs.
    pub fn inner(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Values of a token's inputs, Bs and Cs, in this order: the channels of the convolution before.
    pub fn width(&self) -> usize {
        self.inner() + 2 * self.n_groups * self.n_states
    }

    fn check(&self) {
        let ScanShape { n_heads, head_dim, n_groups, n_states } = *self;
        assert!(n_groups > 0 && n_heads.is_multiple_of(n_groups), "{n_heads} heads in {n_groups} groups");
        assert!(
            n_heads > 0 && n_states > 0 && head_dim > 0 && head_dim.is_multiple_of(LANES),
            "{n_heads} heads of {head_dim} values and {n_states} states"
        );
    }
}

/// What a token brings.
#[derive(Debug, Clone, Copy)]
pub struct ScanInput<'a> {
    /// Inputs, Bs and Cs: `[n_tokens, width]`.
    pub mixed: &'a [f32],
    /// How much of the inputs is taken in, and how much of the states is left.
    pub steps: &'a TokenSteps,
    /// What of its input a head's output has beside what is read: `[n_heads]`.
    pub skip: &'a [f32],
}

/// Runs the tokens of `rows` through their states, head by head; `out` is `[n_tokens, n_heads, head_dim]`.
///
/// # Panics
/// When the layer does not fit the shape, the arena or the rows, or a slice has another length than these ask for.
#[expect(clippy::too_many_arguments, reason = "the operation's inputs, none of which belong together")]
pub fn scan(
    threads: &Threads,
    isa: Isa,
    arena: &mut KvArena,
    layer: &StateLayer,
    shape: &ScanShape,
    rows: &[StateRow<'_>],
    input: ScanInput<'_>,
    out: &mut [f32],
) {
    shape.check();
    let n_tokens = layer.check(arena, rows);
    let n_heads = shape.n_heads;
    assert_eq!((layer.n_heads(), layer.head_values()), (n_heads, shape.head_values()), "heads of the state");
    assert_eq!(input.mixed.len(), n_tokens * shape.width(), "inputs of {n_tokens} tokens");
    assert_eq!(input.skip.len(), n_heads, "skips of {n_heads} heads");
    assert_eq!(out.len(), n_tokens * shape.inner(), "outputs of {n_tokens} tokens");
    input.steps.check(n_tokens * n_heads);
    let mut pieces = Vec::with_capacity(rows.len());
    let mut first = 0;
    for row in rows {
        pieces.push(Piece { row, first });
        first += row.n_tokens;
    }
    // The longest first, so that no worker is left with one at the end.
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.row.n_tokens));
    let job = Job { arena, layer, shape, input, out: SharedMut::new(out) };
    threads.for_each(pieces.len() * n_heads, 1, |units| {
        for unit in units {
            // SAFETY: all is checked above. A head of a row is one worker's: its state, its saves and its outputs.
            unsafe { run_head(isa, &job, &pieces[unit / n_heads], unit % n_heads) };
        }
    });
}

/// The operands of a call, as the workers see them.
struct Job<'a> {
    arena: &'a KvArena,
    layer: &'a StateLayer,
    shape: &'a ScanShape,
    input: ScanInput<'a>,
    out: SharedMut<'a, f32>,
}

/// A row, and the packed index of its first token.
struct Piece<'a> {
    row: &'a StateRow<'a>,
    first: usize,
}

simd_dispatch! {
    /// Runs all tokens of a row through one head.
    ///
    /// # Safety
    /// The call is checked, and the head of the row is this thread's.
    unsafe fn run_head(job: &Job<'_>, piece: &Piece<'_>, head: usize) = run_head_on
}

/// What [`run_head`] does, with one instruction set.
///
/// # Safety
/// The instruction set of `S`. The promises of [`run_head`].
#[inline(always)]
unsafe fn run_head_on<S: Simd>(job: &Job<'_>, piece: &Piece<'_>, head: usize) {
    let n_panels = job.shape.head_dim / LANES;
    let whole = n_panels / PANELS * PANELS;
    // SAFETY: the caller's promises, and panels that the head has.
    unsafe {
        for panel in (0..whole).step_by(PANELS) {
            run_panels::<S, PANELS>(job, piece, head, panel);
        }
        for panel in whole..n_panels {
            run_panels::<S, 1>(job, piece, head, panel);
        }
    }
}

/// Runs all tokens of a row through `N` panels of a head from `panel` on.
///
/// # Safety
/// The instruction set of `S`. The promises of [`run_head`]; the head has these panels.
#[inline(always)]
unsafe fn run_panels<S: Simd, const N: usize>(job: &Job<'_>, piece: &Piece<'_>, head: usize, panel: usize) {
    let Piece { row, first } = *piece;
    let panel_values = job.shape.n_states * LANES;
    // SAFETY: the panels are inside the head, whose memory nobody else uses, and saves are other memory.
    unsafe {
        let state = job.layer.head(job.arena, row.blocks, head).add(panel * panel_values);
        if row.begins() {
            state.write_bytes(0, N * panel_values);
        }
        let mut at = 0;
        for save in &row.saves {
            run_tokens::<S, N>(job, state, first + at..first + save.n_tokens, (head, panel));
            let to = job.layer.head(job.arena, save.blocks, head).add(panel * panel_values);
            to.copy_from_nonoverlapping(state, N * panel_values);
            at = save.n_tokens;
        }
        run_tokens::<S, N>(job, state, first + at..first + row.n_tokens, (head, panel));
    }
}

/// Runs the tokens with these packed indices through the panels at `state`, of a head from a panel on.
///
/// # Safety
/// The instruction set of `S`. The call is checked, and the panels and these outputs are this thread's.
#[inline(always)]
unsafe fn run_tokens<S: Simd, const N: usize>(
    job: &Job<'_>,
    state: *mut f32,
    tokens: std::ops::Range<usize>,
    (head, panel): (usize, usize),
) {
    let ScanShape { n_heads, head_dim, n_groups, n_states } = *job.shape;
    let (inner, width, group) = (job.shape.inner(), job.shape.width(), head / (n_heads / n_groups));
    let ScanInput { mixed, steps, skip } = job.input;
    for token in tokens {
        let at = token * n_heads + head;
        // SAFETY: the caller's promises; indices follow from the shape.
        unsafe {
            let start = mixed.as_ptr().add(token * width);
            let x = start.add(head * head_dim + panel * LANES);
            let b = start.add(inner + group * n_states);
            let c = b.add(n_groups * n_states);
            let (step, decay) = (S::splat(steps.step[at]), S::splat(steps.decay[at]));
            let mut taken = [S::zero(); N];
            for (n, taken) in taken.iter_mut().enumerate() {
                *taken = S::mul(step, S::load(x.add(n * LANES)));
            }
            let read = run_token::<S, N>(state, n_states, (b, c), decay, taken);
            let out = job.out.as_ptr().add(at * head_dim + panel * LANES);
            let skip = S::splat(skip[head]);
            for (n, &read) in read.iter().enumerate() {
                S::store(out.add(n * LANES), S::fma(skip, S::load(x.add(n * LANES)), read));
            }
        }
    }
}

/// Lets the panels at `state` decay, adds what is `taken` where `b` says, and reads them by `c`.
///
/// # Safety
/// The instruction set of `S`; `state` is `N` panels of `n_states` states, as many as there are of `b` and `c`, and nobody
/// else uses them.
#[inline(always)]
unsafe fn run_token<S: Simd, const N: usize>(
    state: *mut f32,
    n_states: usize,
    (b, c): (*const f32, *const f32),
    decay: S::V,
    taken: [S::V; N],
) -> [S::V; N] {
    // SAFETY: the caller's promises.
    unsafe {
        let mut read = [S::zero(); N];
        for i in 0..n_states {
            let (b, c) = (S::splat(*b.add(i)), S::splat(*c.add(i)));
            for n in 0..N {
                let at = state.add((n * n_states + i) * LANES);
                let h = S::fma(b, taken[n], S::mul(decay, S::load(at)));
                S::store(at, h);
                read[n] = S::fma(h, c, read[n]);
            }
        }
        read
    }
}

#[cfg(test)]
mod tests;
