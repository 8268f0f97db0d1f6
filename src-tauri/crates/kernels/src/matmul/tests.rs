//! Every path against the oracle, against each other, and bit for bit against itself in other company.

use super::*;
use crate::activations::Form;
use crate::ggml::dequantize;
use crate::testing::{Rng, random_blocks};

struct Case {
    ty: GgmlType,
    n_out: usize,
    n_in: usize,
    raw: Vec<u8>,
    weights: Weights,
}

impl Case {
    fn random(ty: GgmlType, n_out: usize, n_in: usize, rng: &mut Rng) -> Case {
        Case::new(ty, n_out, n_in, random_blocks(ty, n_out * n_in, rng))
    }

    fn new(ty: GgmlType, n_out: usize, n_in: usize, raw: Vec<u8>) -> Case {
        let weights = Weights::pack(&Threads::new(1), ty, &raw, n_out, n_in).unwrap();
        Case { ty, n_out, n_in, raw, weights }
    }

    fn run(&self, threads: &Threads, isa: Isa, x: &[f32]) -> Vec<f32> {
        let mut acts = Activations::new();
        acts.quantize(threads, isa, Form::of([&self.weights]), x, self.n_in);
        let mut out = vec![f32::NAN; acts.n_rows() * self.n_out];
        matmul(threads, isa, &self.weights, &acts, &mut out, Epilogue::Store);
        out
    }

    /// The product in f64, and for each output the sum of magnitudes that errors are measured by.
    fn oracle(&self, x: &[f32]) -> Vec<(f64, f64)> {
        let mut w = vec![0.0; self.n_out * self.n_in];
        dequantize(self.ty, &self.raw, &mut w);
        let is_float = self.ty.block_elems() == 1;
        let x: Vec<f64> = if is_float { x.iter().map(|x| f64::from(*x)).collect() } else { rounded(x) };
        let rows = x.chunks(self.n_in);
        rows.flat_map(|x| {
            w.chunks(self.n_in).map(|w| {
                let terms = x.iter().zip(w).map(|(x, w)| x * f64::from(*w));
                terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
            })
        })
        .collect()
    }

    fn check(&self, isa: Isa, x: &[f32], what: &str) {
        let threads = Threads::new(2);
        let got = self.run(&threads, isa, x);
        for (i, (got, (wanted, size))) in got.iter().zip(self.oracle(x)).enumerate() {
            let error = (f64::from(*got) - wanted).abs();
            // The minimums of a block cancel against its integers: their sizes count, too.
            assert!(
                error <= size * 4e-6 + 1e-37,
                "{what}: {} {} [{}, {}], output {i}: {got} for {wanted}, size {size}",
                isa.name(),
                self.ty.name(),
                self.n_out,
                self.n_in
            );
        }
    }
}

/// The rows as int8 per 32, worked out here on its own.
fn rounded(x: &[f32]) -> Vec<f64> {
    let blocks = x.chunks(32);
    blocks
        .flat_map(|block| {
            let largest = block.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            let scale = f64::from(largest / 127.0);
            let inverse = if largest < 1e-30 { 0.0 } else { 127.0 / largest };
            block.iter().map(move |x| f64::from((x * inverse).round_ties_even()) * scale)
        })
        .collect()
}

fn normal_rows(n: usize, rng: &mut Rng) -> Vec<f32> {
    (0..n).map(|_| rng.normal()).collect()
}

#[test]
fn every_type_on_every_instruction_set_multiplies_like_the_oracle() {
    let mut rng = Rng::new(2);
    for isa in Isa::available() {
        for ty in GgmlType::ALL {
            for (n_out, n_rows) in [(1, 1), (32, 2), (70, 5), (96, 19), (33, 140)] {
                let n_in = 3 * if ty.block_elems() == 1 { 37 } else { ty.block_elems() };
                let case = Case::random(ty, n_out, n_in, &mut rng);
                case.check(isa, &normal_rows(n_rows * n_in, &mut rng), "random");
            }
        }
    }
}
