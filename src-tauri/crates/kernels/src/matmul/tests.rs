//! Every path against the oracle, against each other, and bit for bit against itself in other company.

use super::*;
use crate::activations::{Form, Rounding};
use crate::ggml::GgmlType;
use crate::ggml::dequantize;
use crate::testing::{Rng, random_blocks, set_scales};
use crate::weights::SubBlock;

const ROUNDINGS: [Rounding; 2] = [Rounding::Bits8, Rounding::Bits16];

/// A matrix with all that tests want to know of it.
struct Case {
    ty: GgmlType,
    n_out: usize,
    n_in: usize,
    weights: Weights,
    /// Its values.
    w: Vec<f32>,
    /// The sizes of what they are made of, which errors are measured by.
    sizes: Vec<f32>,
}

impl Case {
    fn random(ty: GgmlType, n_out: usize, n_in: usize, rng: &mut Rng) -> Case {
        Case::new(ty, n_out, n_in, &random_blocks(ty, n_out * n_in, rng))
    }

    fn new(ty: GgmlType, n_out: usize, n_in: usize, raw: &[u8]) -> Case {
        let weights = Weights::pack(&Threads::new(1), ty, raw, n_out, n_in).unwrap();
        let mut w = vec![0.0; n_out * n_in];
        dequantize(ty, raw, &mut w);
        let size = |(i, w): (usize, &f32)| {
            let (row, k) = (i / n_in, i % n_in);
            if ty.is_float() {
                return w.abs();
            }
            let sub = SubBlock::read(ty, weights.tile(row / TILE_ROWS), k / 32, row % TILE_ROWS);
            // A minimum may cancel the scaled integer, but not the error of it.
            sub.scale[k % 32 / 16].abs() * 128.0 + sub.min[k % 32 / 16].abs()
        };
        let sizes = w.iter().enumerate().map(size).collect();
        Case { ty, n_out, n_in, weights, w, sizes }
    }

    /// Columns that every type can have, and that are not the same number of blocks for all.
    fn n_in_for(ty: GgmlType) -> usize {
        if ty.is_float() { 111 } else { 3 * ty.block_elems() }
    }

    fn run(&self, threads: &Threads, isa: Isa, rounding: Rounding, x: &[f32]) -> Vec<f32> {
        let mut acts = Activations::new(rounding);
        acts.quantize(threads, isa, Form::of([&self.weights]), x, self.n_in);
        let mut out = vec![f32::NAN; acts.n_rows() * self.n_out];
        matmul(threads, isa, &self.weights, &acts, &mut out, Epilogue::Store);
        out
    }

    fn check(&self, isa: Isa, x: &[f32], what: &str) {
        ROUNDINGS.into_iter().for_each(|rounding| self.check_rounded(isa, rounding, x, what));
    }

    fn check_rounded(&self, isa: Isa, rounding: Rounding, x: &[f32], what: &str) {
        let got = self.run(&Threads::new(2), isa, rounding, x);
        let x: Vec<f64> =
            if self.ty.is_float() { x.iter().map(|x| f64::from(*x)).collect() } else { rounded(rounding, x) };
        for (i, got) in got.iter().enumerate() {
            let (row, col) = (i / self.n_out, i % self.n_out);
            let (mut wanted, mut size) = (0.0, 0.0);
            for k in 0..self.n_in {
                let (x, at) = (x[row * self.n_in + k], col * self.n_in + k);
                wanted += x * f64::from(self.w[at]);
                size += x.abs() * f64::from(self.sizes[at]);
            }
            assert!(
                (f64::from(*got) - wanted).abs() <= size * 1e-6 + 1e-36,
                "{what}: {} {rounding:?} {} [{}, {}], row {row}, output {col}: {got} for {wanted}, size {size}",
                isa.name(),
                self.ty.name(),
                self.n_out,
                self.n_in
            );
        }
    }
}

/// The rows as integers per 32, worked out here on its own.
fn rounded(rounding: Rounding, x: &[f32]) -> Vec<f64> {
    let block = |block: &[f32]| {
        let largest = block.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let (scale, inverse) = if largest < 1e-30 { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
        block
            .iter()
            .map(|x| {
                let nearest = (x * inverse).round_ties_even();
                let rest = ((x * inverse - nearest) * 254.0).round_ties_even();
                let rest = if rounding == Rounding::Bits16 { f64::from(rest) / 254.0 } else { 0.0 };
                (f64::from(nearest) + rest) * f64::from(scale)
            })
            .collect::<Vec<_>>()
    };
    x.chunks(32).flat_map(block).collect()
}

fn normal_rows(n: usize, rng: &mut Rng) -> Vec<f32> {
    (0..n).map(|_| rng.normal()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_type_on_every_instruction_set_multiplies_like_the_oracle() {
    let mut rng = Rng::new(2);
    for isa in Isa::available() {
        for ty in GgmlType::ALL {
            for (n_out, n_rows) in [(1, 1), (32, 2), (70, 5), (96, 19), (33, 140)] {
                let case = Case::random(ty, n_out, Case::n_in_for(ty), &mut rng);
                case.check(isa, &normal_rows(n_rows * case.n_in, &mut rng), "random");
            }
        }
    }
}

/// Blocks whose integers, sub-block scales and minimums are all at one end of their range, with `d` and `dmin`
/// of 1: the largest sums that can occur.
fn extreme_blocks(ty: GgmlType, n: usize, byte: u8) -> Vec<u8> {
    let mut raw = vec![byte; ty.bytes_of(n).unwrap()];
    for block in raw.chunks_exact_mut(ty.block_bytes()) {
        match ty {
            GgmlType::F32 => set_scales(ty, block, 1e4, 0.0),
            GgmlType::F16 => set_scales(ty, block, 65504.0, 0.0),
            GgmlType::BF16 => set_scales(ty, block, -3e4, 0.0),
            GgmlType::NVFP4 => set_scales(ty, block, 224.0, 0.0),
            _ => set_scales(ty, block, 1.0, 1.0),
        }
    }
    raw
}

#[test]
fn weights_and_rows_at_the_ends_of_their_ranges_do_not_overflow() {
    for isa in Isa::available() {
        for ty in GgmlType::ALL {
            for byte in [0x00, 0xff, 0x7f, 0x80, 0x81] {
                let n_in = Case::n_in_for(ty);
                let case = Case::new(ty, 40, n_in, &extreme_blocks(ty, 40 * n_in, byte));
                let sign = |k: usize, every: usize| if (k / every).is_multiple_of(2) { 1.0 } else { -1.0 };
                let rows: Vec<f32> = [1, 2, 4, 16, 32, usize::MAX]
                    .iter()
                    .flat_map(|every| (0..n_in).map(move |k| sign(k, *every)))
                    .chain((0..n_in).map(|_| -1.0))
                    .collect();
                case.check(isa, &rows, &format!("all bytes {byte:#x}"));
            }
        }
    }
}

#[test]
fn awkward_rows_multiply_like_the_oracle() {
    let mut rng = Rng::new(3);
    for isa in Isa::available() {
        for ty in GgmlType::ALL {
            let case = Case::random(ty, 40, Case::n_in_for(ty), &mut rng);
            let n = case.n_in;
            let mut outlier = normal_rows(n, &mut rng);
            outlier[n / 2] = 1e30;
            let scaled =
                |by: f32, rng: &mut Rng| normal_rows(n, rng).iter().map(|x| x * by).collect::<Vec<_>>();
            let rows = [
                ("zeros", vec![0.0; n]),
                ("minus zeros", vec![-0.0; n]),
                ("denormals", scaled(1e-40, &mut rng)),
                ("about the smallest that count", scaled(1e-30, &mut rng)),
                ("huge", scaled(1e30, &mut rng)),
                ("one outlier", outlier),
                ("ties", (0..n).map(|k| if k % 32 == 0 { 127.0 } else { (k % 32) as f32 - 15.5 }).collect()),
            ];
            for (what, row) in &rows {
                case.check(isa, row, what);
            }
            let together: Vec<f32> = rows.iter().flat_map(|(_, row)| row.iter().copied()).collect();
            case.check(isa, &together, "all together");
        }
    }
}

#[test]
fn quantised_products_have_the_same_bits_on_every_instruction_set() {
    let mut rng = Rng::new(4);
    let threads = Threads::new(1);
    for ty in GgmlType::ALL.into_iter().filter(|ty| !ty.is_float()) {
        let case = Case::random(ty, 70, 2 * Case::n_in_for(ty), &mut rng);
        for (n_rows, rounding) in [1, 2, 9, 40].into_iter().flat_map(|n| ROUNDINGS.map(|r| (n, r))) {
            let x = normal_rows(n_rows * case.n_in, &mut rng);
            let wanted = case.run(&threads, Isa::SCALAR, rounding, &x);
            for isa in Isa::available() {
                let got = case.run(&threads, isa, rounding, &x);
                let what = format!("{} {} {rounding:?} {n_rows} rows", isa.name(), ty.name());
                assert_eq!(bits(&got), bits(&wanted), "{what}");
            }
        }
    }
}

#[test]
fn the_bits_of_a_row_do_not_depend_on_other_rows_the_start_or_the_threads() {
    const N_ALL: usize = 290;
    let mut rng = Rng::new(5);
    let pools = [Threads::new(1), Threads::new(2), Threads::new(3)];
    for isa in Isa::available() {
        // The plain kernel is slow and has one path only; a sample is enough.
        let (n_out, step) = if isa == Isa::SCALAR { (33, 5) } else { (72, 1) };
        for ty in GgmlType::ALL {
            let case = Case::random(ty, n_out, Case::n_in_for(ty), &mut rng);
            let x = normal_rows(N_ALL * case.n_in, &mut rng);
            let wanted = ROUNDINGS.map(|rounding| bits(&case.run(&pools[0], isa, rounding, &x)));
            let counts = [1, 2, 3, 4, 5, 7, 8, 9, 11, 16, 17, 31, 32, 33, 40, 64, 127, 128, 129, 257];
            for (i, n_rows) in counts.into_iter().enumerate().step_by(step) {
                for (j, first) in [0, 1, 37, 71, 161].into_iter().enumerate() {
                    if first + n_rows > N_ALL {
                        continue;
                    }
                    let threads = &pools[(i + first) % pools.len()];
                    let x = &x[first * case.n_in..][..n_rows * case.n_in];
                    // Every place in 8 bits, every other one in 16.
                    let n_roundings = 1 + (i + j) % 2;
                    for (rounding, wanted) in ROUNDINGS.into_iter().zip(&wanted).take(n_roundings) {
                        assert!(
                            bits(&case.run(threads, isa, rounding, x))
                                == wanted[first * n_out..][..n_rows * n_out],
                            "{} {} {rounding:?}: {n_rows} rows from {first} on {} threads",
                            isa.name(),
                            ty.name(),
                            threads.n()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn several_products_in_one_go_have_the_bits_of_each_alone() {
    let mut rng = Rng::new(6);
    let threads = Threads::new(2);
    let isa = Isa::detect();
    let types = [GgmlType::Q4K, GgmlType::F16, GgmlType::Q8_0];
    let cases = types.map(|ty| Case::random(ty, 70, 256, &mut rng));
    for n_rows in [1, 5, 64] {
        let x = normal_rows(n_rows * 256, &mut rng);
        let mut acts = Activations::default();
        acts.quantize(&threads, isa, Form::of(cases.iter().map(|case| &case.weights)), &x, 256);
        let mut outs = [vec![0.0; n_rows * 70], vec![0.0; n_rows * 70], vec![0.0; n_rows * 70]];
        let mut products: Vec<Product<'_>> = cases
            .iter()
            .zip(&mut outs)
            .map(|(case, out)| Product { weights: &case.weights, out, epilogue: Epilogue::Store })
            .collect();
        matmul_each(&threads, isa, &acts, &mut products);
        for (case, out) in cases.iter().zip(&outs) {
            assert_eq!(bits(out), bits(&case.run(&threads, isa, Rounding::Bits8, &x)), "{}", case.ty.name());
        }
    }
}

#[test]
fn adding_has_the_bits_of_storing_and_then_adding() {
    let mut rng = Rng::new(7);
    let threads = Threads::new(2);
    for isa in Isa::available() {
        for ty in [GgmlType::Q4_1, GgmlType::Q6K, GgmlType::BF16] {
            for (n_out, n_rows) in [(64, 1), (45, 3), (45, 40)] {
                let case = Case::random(ty, n_out, 256, &mut rng);
                let x = normal_rows(n_rows * 256, &mut rng);
                let before = normal_rows(n_rows * n_out, &mut rng);
                let wanted: Vec<f32> = case
                    .run(&threads, isa, Rounding::Bits8, &x)
                    .iter()
                    .zip(&before)
                    .map(|(new, old)| old + new)
                    .collect();
                let mut acts = Activations::default();
                acts.quantize(&threads, isa, Form::Both, &x, 256);
                let mut out = before;
                matmul(&threads, isa, &case.weights, &acts, &mut out, Epilogue::Add);
                assert_eq!(bits(&out), bits(&wanted), "{} {}", isa.name(), ty.name());
            }
        }
    }
}

#[test]
fn blocks_of_any_bytes_multiply_alike_on_every_instruction_set() {
    let mut rng = Rng::new(10);
    let threads = Threads::new(1);
    for ty in GgmlType::ALL.into_iter().filter(|ty| !ty.is_float()) {
        let (n_out, n_in) = (70, Case::n_in_for(ty));
        let raw: Vec<u8> =
            (0..ty.bytes_of(n_out * n_in).unwrap()).map(|_| (rng.bits() >> 32) as u8).collect();
        let case = Case::new(ty, n_out, n_in, &raw);
        // Two NaN are alike whatever their bits.
        let bits = |values: &[f32]| -> Vec<Option<u32>> {
            values.iter().map(|x| (!x.is_nan()).then_some(x.to_bits())).collect()
        };
        for (row, wanted) in case.w.chunks(n_in).enumerate() {
            let mut got = vec![0.0; n_in];
            case.weights.embed(row, &mut got);
            assert_eq!(bits(&got), bits(wanted), "{} row {row}", ty.name());
        }
        for n_rows in [1, 2, 5] {
            let x = normal_rows(n_rows * n_in, &mut rng);
            let wanted = bits(&case.run(&threads, Isa::SCALAR, Rounding::Bits8, &x));
            for isa in Isa::available() {
                let got = bits(&case.run(&threads, isa, Rounding::Bits8, &x));
                assert_eq!(got, wanted, "{} {} {n_rows} rows", isa.name(), ty.name());
            }
        }
    }
}

#[test]
fn a_scaled_matrix_gives_its_products_and_rows_times_the_scale() {
    let mut rng = Rng::new(11);
    let threads = Threads::new(2);
    for isa in Isa::available() {
        for ty in [GgmlType::NVFP4, GgmlType::Q4K, GgmlType::F16] {
            for (n_out, n_rows) in [(64, 1), (45, 3), (45, 40)] {
                let mut case = Case::random(ty, n_out, 256, &mut rng);
                let x = normal_rows(n_rows * 256, &mut rng);
                let plain = case.run(&threads, isa, Rounding::Bits8, &x);
                let before = normal_rows(n_rows * n_out, &mut rng);
                case.weights = case.weights.scaled(0.5).scaled(-0.7);
                let wanted: Vec<f32> = plain.iter().map(|y| y * (0.5 * -0.7)).collect();
                assert_eq!(bits(&case.run(&threads, isa, Rounding::Bits8, &x)), bits(&wanted));
                let mut acts = Activations::default();
                acts.quantize(&threads, isa, Form::Both, &x, 256);
                let mut out = before.clone();
                matmul(&threads, isa, &case.weights, &acts, &mut out, Epilogue::Add);
                let wanted: Vec<f32> = wanted.iter().zip(&before).map(|(new, old)| old + new).collect();
                assert_eq!(bits(&out), bits(&wanted), "{} {}", isa.name(), ty.name());
                let mut row = vec![0.0; 256];
                case.weights.embed(n_out - 1, &mut row);
                let wanted: Vec<f32> = case.w[(n_out - 1) * 256..].iter().map(|w| w * (0.5 * -0.7)).collect();
                assert_eq!(bits(&row), bits(&wanted), "{}", ty.name());
            }
        }
    }
}

#[test]
fn a_row_that_is_not_finite_spoils_itself_only() {
    let mut rng = Rng::new(8);
    let threads = Threads::new(2);
    for isa in Isa::available() {
        for ty in GgmlType::ALL {
            let case = Case::random(ty, 40, 256, &mut rng);
            for (n_rows, bad_row) in [(2, 1), (5, 2), (40, 17)] {
                let mut x = normal_rows(n_rows * 256, &mut rng);
                let wanted = case.run(&threads, isa, Rounding::Bits8, &x);
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    x[bad_row * 256 + 77] = bad;
                    let got = case.run(&threads, isa, Rounding::Bits8, &x);
                    for row in (0..n_rows).filter(|row| *row != bad_row) {
                        let range = row * 40..(row + 1) * 40;
                        assert_eq!(bits(&got[range.clone()]), bits(&wanted[range]), "{}", ty.name());
                    }
                    let bad_outputs = &got[bad_row * 40..][..40];
                    assert!(bad_outputs.iter().all(|y| !y.is_finite()), "{} {}", isa.name(), ty.name());
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "rows in form F32 for Q4_0 weights")]
fn rows_in_the_wrong_form_are_refused() {
    let threads = Threads::new(1);
    let case = Case::random(GgmlType::Q4_0, 4, 32, &mut Rng::new(9));
    let mut acts = Activations::default();
    acts.quantize(&threads, Isa::SCALAR, Form::F32, &[0.0; 32], 32);
    matmul(&threads, Isa::SCALAR, &case.weights, &acts, &mut [0.0; 4], Epilogue::Store);
}

#[test]
#[should_panic(expected = "outputs of 2 rows")]
fn an_output_of_the_wrong_length_is_refused() {
    let threads = Threads::new(1);
    let case = Case::random(GgmlType::Q4_0, 4, 32, &mut Rng::new(9));
    let mut acts = Activations::default();
    acts.quantize(&threads, Isa::SCALAR, Form::Int8, &[0.0; 64], 32);
    matmul(&threads, Isa::SCALAR, &case.weights, &acts, &mut [0.0; 7], Epilogue::Store);
}
