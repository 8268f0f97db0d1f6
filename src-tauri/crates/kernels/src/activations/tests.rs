//! What the rows become.

use super::rows::Plane;
use super::*;
use crate::isa::Isa;
use crate::ops;
use crate::testing::Rng;
use crate::threads::Threads;

fn blocks(acts: &Activations) -> Vec<(Vec<i8>, [u32; 4])> {
    let blocks = (0..acts.n_rows()).flat_map(|row| (0..acts.n_in() / 32).map(move |b| (row, b)));
    blocks
        .map(|(row, b)| {
            let at = b * acts.stride() + row;
            let plane = &acts.planes()[0];
            let meta = plane.meta[at];
            let sums = [meta.neg_sum, meta.neg_sum_low].map(i32::cast_unsigned);
            let bits = [meta.scale.to_bits(), meta.sum.to_bits(), sums[0], sums[1]];
            (plane.q[32 * at..][..32].to_vec(), bits)
        })
        .collect()
}

fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| rng.normal()).collect()
}

#[test]
fn bytes_scale_and_sums_are_those_of_the_definition_and_the_same_on_every_instruction_set() {
    for isa in Isa::available() {
        for (n_threads, n_rows) in [(1, 1), (2, 7), (3, 8), (2, 100)] {
            let threads = Threads::new(n_threads);
            let x = normal(n_rows * 96, 1);
            let mut acts = Activations::default();
            acts.quantize(&threads, isa, Form::Both, &x, 96);
            assert_eq!(acts.x(), x);
            for (x, (q, [scale, sum, neg_sum, neg_low])) in x.chunks(32).zip(blocks(&acts)) {
                let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                let wanted: Vec<i8> =
                    x.iter().map(|x| (x * (127.0 / largest)).round_ties_even() as i8).collect();
                assert_eq!(q, wanted);
                let total: i32 = q.iter().map(|q| i32::from(*q)).sum();
                let low: i32 = q[..16].iter().map(|q| i32::from(*q)).sum();
                assert_eq!(f32::from_bits(scale), largest / 127.0);
                assert_eq!(f32::from_bits(sum), largest / 127.0 * total as f32);
                assert_eq!([neg_sum, neg_low].map(u32::cast_signed), [-total, -low]);
            }
        }
    }
}

#[test]
fn fused_operations_have_the_bits_of_the_separate_ones() {
    let threads = Threads::new(2);
    for isa in Isa::available() {
        for (n_rows, n_in) in [(1, 64), (3, 576), (50, 576)] {
            let (x, up, weight) = (normal(n_rows * n_in, 2), normal(n_rows * n_in, 3), normal(n_in, 4));
            let (mut fused, mut separate) = (Activations::default(), Activations::default());
            let mut check = |what: &str, fused: &Activations, values: &[f32]| {
                separate.quantize(&threads, isa, Form::Both, values, n_in);
                assert_eq!(blocks(fused), blocks(&separate), "{what} {} {n_rows}", isa.name());
                assert_eq!(fused.x(), separate.x(), "{what} {} {n_rows}", isa.name());
            };
            let mut values = vec![0.0; x.len()];
            ops::rms_norm(&threads, isa, &x, &weight, 1e-5, &mut values);
            let norm = RmsNorm { weight: &weight, eps: 1e-5 };
            fused.rms_norm_quantize(&threads, isa, Form::Both, &x, norm);
            check("norm", &fused, &values);

            let gate_up = GateUp { gate: &x, up: &up };
            let mut values = x.clone();
            ops::silu_mul(&threads, isa, &mut values, &up);
            fused.gated_quantize(&threads, isa, Form::Both, Gate::Silu, gate_up, n_in);
            check("silu", &fused, &values);

            let mut values = x.clone();
            ops::gelu_tanh_mul(&threads, isa, &mut values, &up);
            fused.gated_quantize(&threads, isa, Form::Both, Gate::GeluTanh, gate_up, n_in);
            check("gelu", &fused, &values);

            let values: Vec<f32> = x.iter().map(|x| x.max(0.0) * x.max(0.0)).collect();
            fused.squared_relu_quantize(&threads, isa, Form::Both, &x, n_in);
            check("squared relu", &fused, &values);

            let mut values = x.clone();
            ops::gelu_tanh_mul(&threads, isa, &mut values, &vec![1.0; x.len()]);
            fused.gelu_tanh_quantize(&threads, isa, Form::Both, &x, n_in);
            check("gelu alone", &fused, &values);
        }
    }
}

#[test]
fn rows_for_float_weights_may_have_any_length() {
    let threads = Threads::new(1);
    for isa in Isa::available() {
        let (gate, up) = (normal(2 * 37, 5), normal(2 * 37, 6));
        let mut acts = Activations::default();
        acts.gated_quantize(&threads, isa, Form::F32, Gate::Silu, GateUp { gate: &gate, up: &up }, 37);
        for (got, (g, u)) in acts.x().iter().zip(gate.iter().zip(&up)) {
            let wanted = f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u);
            assert!((f64::from(*got) - wanted).abs() < 1e-6, "{got} for {wanted}");
        }
    }
}

#[test]
fn memory_is_kept_and_grows() {
    let threads = Threads::new(1);
    let mut acts = Activations::default();
    for n_rows in [4, 100, 2, 9] {
        let x = normal(n_rows * 64, n_rows as u64);
        acts.quantize(&threads, Isa::detect(), Form::Both, &x, 64);
        let mut fresh = Activations::default();
        fresh.quantize(&threads, Isa::detect(), Form::Both, &x, 64);
        assert_eq!(blocks(&acts), blocks(&fresh));
        assert_eq!(acts.x(), fresh.x());
    }
}

#[test]
#[should_panic(expected = "33 columns are no multiple of 32")]
fn bytes_of_part_of_a_block_are_refused() {
    Activations::default().quantize(&Threads::new(1), Isa::SCALAR, Form::Int8, &[0.0; 33], 33);
}

#[test]
fn the_second_plane_holds_what_the_first_one_lost() {
    for isa in Isa::available() {
        let x = normal(9 * 64, 7);
        let (mut coarse, mut fine) = (Activations::default(), Activations::new(Rounding::Bits16));
        for acts in [&mut coarse, &mut fine] {
            acts.quantize(&Threads::new(2), isa, Form::Int8, &x, 64);
        }
        assert_eq!(blocks(&coarse), blocks(&fine), "the first plane is the same");
        let [first, rest] = fine.planes() else { panic!("{} planes", fine.planes().len()) };
        for (i, x) in x.chunks(32).enumerate() {
            let at = i % 2 * fine.stride() + i / 2;
            let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            let (a, b) = (first.meta[at], rest.meta[at]);
            assert_eq!(b.scale, a.scale / 254.0);
            for (k, x) in x.iter().enumerate() {
                let value = |plane: &Plane| f64::from(plane.q[32 * at + k]) * f64::from(plane.meta[at].scale);
                let error = (value(first) + value(rest) - f64::from(*x)).abs();
                assert!(error <= f64::from(largest) / (127.0 * 254.0 * 1.9), "{x} is off by {error}");
            }
            let total: i32 = rest.q[32 * at..][..32].iter().map(|q| i32::from(*q)).sum();
            assert_eq!((b.neg_sum, b.sum), (-total, b.scale * total as f32));
        }
    }
}
