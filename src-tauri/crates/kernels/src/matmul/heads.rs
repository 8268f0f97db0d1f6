//! Each head's rows times a matrix of that head's own, all heads in one start of the workers.
#![allow(unsafe_code)]

use super::{Activations, Epilogue, Isa, Out, SharedMut, Threads, Weights};
use super::{TILE_ROWS, check_operands, chunk_rows, n_cols, run_tile};

/// Multiplies the rows of `acts`, `[n_heads, n_tokens, n_in]`, each with its head's matrix of `heads`, `[n_out, n_in]`,
/// into `out`, `[n_heads, n_tokens, n_out]`.
///
/// # Panics
/// When the matrices are not of one shape, shapes do not fit, or the rows are not in the form that the weights need.
pub fn matmul_heads(threads: &Threads, isa: Isa, heads: &[Weights], acts: &Activations, out: &mut [f32]) {
    let Some(first) = heads.first() else { panic!("products of no heads") };
    let (n_out, n_tiles) = (first.n_out(), first.n_tiles());
    for weights in heads {
        check_operands(weights, acts);
        assert_eq!(weights.n_out(), n_out, "outputs of the heads' matrices");
    }
    assert!(acts.n_rows().is_multiple_of(heads.len()), "{} rows of {} heads", acts.n_rows(), heads.len());
    assert_eq!(out.len(), acts.n_rows() * n_out, "outputs of {} rows", acts.n_rows());
    let n_tokens = acts.n_rows() / heads.len();
    let (out, chunk) = (SharedMut::new(out), chunk_rows(acts));
    threads.for_each(heads.len() * n_tiles, 1, |units| {
        for (head, tile_idx) in units.map(|unit| (unit / n_tiles, unit % n_tiles)) {
            let (weights, rows) = (&heads[head], head * n_tokens..(head + 1) * n_tokens);
            for first in rows.clone().step_by(chunk) {
                let rows = first..rows.end.min(first + chunk);
                // SAFETY: operands and room have been checked; a head's tile is one worker's.
                unsafe {
                    let to = Out {
                        start: out.as_ptr().add(tile_idx * TILE_ROWS),
                        row_stride: n_out,
                        n_cols: n_cols(weights, tile_idx),
                        scale: weights.scale(),
                        epilogue: Epilogue::Store,
                    };
                    run_tile(isa, weights, tile_idx, acts, rows, to);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::{Form, Rounding};
    use crate::ggml::GgmlType;
    use crate::matmul::matmul;
    use crate::testing::{Rng, random_blocks};

    #[test]
    fn every_heads_products_are_those_of_its_matrix_alone() {
        let mut rng = Rng::new(5);
        for (ty, n_in, n_out) in
            [(GgmlType::Q8_0, 192, 70), (GgmlType::F16, 20, 33), (GgmlType::Q4K, 256, 64)]
        {
            let mut matrix = || {
                let raw = random_blocks(ty, n_out * n_in, &mut rng);
                Weights::pack(&Threads::new(1), ty, &raw, n_out, n_in).unwrap()
            };
            let heads = [matrix(), matrix(), matrix()];
            let acts_of = |isa: Isa, of: &[Weights], x: &[f32]| {
                let mut acts = Activations::new(Rounding::Bits8);
                acts.quantize(&Threads::new(1), isa, Form::of(of), x, n_in);
                acts
            };
            for (isa, n_tokens) in
                Isa::available().into_iter().flat_map(|isa| [(isa, 1), (isa, 7), (isa, 150)])
            {
                let x: Vec<f32> = (0..3 * n_tokens * n_in).map(|_| rng.normal()).collect();
                let mut want = vec![0.0; 3 * n_tokens * n_out];
                let rows = x.chunks(n_tokens * n_in).zip(want.chunks_mut(n_tokens * n_out));
                for (weights, (x, want)) in heads.iter().zip(rows) {
                    let acts = acts_of(isa, std::slice::from_ref(weights), x);
                    matmul(&Threads::new(1), isa, weights, &acts, want, Epilogue::Store);
                }
                for n_threads in [1, 3] {
                    let mut got = vec![f32::NAN; want.len()];
                    matmul_heads(&Threads::new(n_threads), isa, &heads, &acts_of(isa, &heads, &x), &mut got);
                    assert!(got == want, "{} {} {n_tokens}", isa.name(), ty.name());
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "3 rows of 2 heads")]
    fn rows_that_are_not_the_same_number_for_every_head_are_refused() {
        let pack = || Weights::pack(&Threads::new(1), GgmlType::F32, &[0; 4 * 32 * 4], 32, 4).unwrap();
        let (heads, threads) = ([pack(), pack()], Threads::new(1));
        let mut acts = Activations::new(Rounding::Bits8);
        acts.quantize(&threads, Isa::SCALAR, Form::of(&heads), &[0.0; 12], 4);
        matmul_heads(&threads, Isa::SCALAR, &heads, &acts, &mut [0.0; 96]);
    }
}
