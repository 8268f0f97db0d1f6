//! The convolution against its formula, and the numerics rule on it.

use super::*;
use crate::state::{StateSave, StateUnit};
use crate::testing::Rng;

/// Channels that are no whole lanes, in more than one span.
const N: usize = SPAN + 37;
const TAPS: usize = 4;
/// Values of a token, of which the channels are some.
const WIDTH: usize = N + 10;
const FIRST: usize = 7;

fn layer() -> StateLayer {
    let columns = (0..TAPS - 1).map(|column| StateUnit { piece: column, offset: 0 }).collect();
    StateLayer::new(vec![], columns, (0, N), 4 * N + 4)
}

fn arena(n_states: usize) -> KvArena {
    let mut arena = KvArena::new(n_states * (TAPS - 1), 4 * N + 4).unwrap();
    (0..arena.n_blocks()).for_each(|block| arena.block_mut(block).fill(0xff));
    arena
}

fn blocks(idx: u32) -> Vec<u32> {
    (3 * idx..3 * idx + 3).collect()
}

struct Case {
    x: Vec<f32>,
    taps: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn new(n: usize) -> Case {
        let mut rng = Rng::new(3);
        let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
        Case { x: values(n * WIDTH), taps: values(TAPS * N), bias: values(N) }
    }

    fn run(
        &self,
        (threads, isa, then): (&Threads, Isa, Then),
        arena: &mut KvArena,
        idx: u32,
        tokens: std::ops::Range<usize>,
        saves: &[(usize, u32)],
    ) -> Vec<f32> {
        let to: Vec<Vec<u32>> = saves.iter().map(|&(_, to)| blocks(to)).collect();
        let saves = saves.iter().zip(&to).map(|(&(n_tokens, _), blocks)| StateSave { n_tokens, blocks });
        let own = blocks(idx);
        let row =
            StateRow { blocks: &own, start: tokens.start, n_tokens: tokens.len(), saves: saves.collect() };
        let bias = (then == Then::Silu).then_some(self.bias.as_slice());
        let conv = Conv { taps: &self.taps, bias, then };
        let values = &self.x[tokens.start * WIDTH..tokens.end * WIDTH];
        let mut out = vec![f32::NAN; tokens.len() * N];
        let x = Channels { values, width: WIDTH, first: FIRST };
        convolve(threads, isa, arena, &layer(), &conv, &[row], x, &mut out);
        out
    }
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn each_channel_is_the_sum_of_its_last_inputs_by_their_taps() {
    let case = Case::new(9);
    for isa in Isa::available() {
        for then in [Then::Nothing, Then::Silu] {
            let got = case.run((&Threads::new(2), isa, then), &mut arena(1), 0, 0..9, &[]);
            for (token, channel) in (0..9).flat_map(|token| (0..N).map(move |channel| (token, channel))) {
                let bias = if then == Then::Silu { f64::from(case.bias[channel]) } else { 0.0 };
                let product = |tap: usize| {
                    let at = (token + tap).checked_sub(TAPS - 1)? * WIDTH + FIRST + channel;
                    Some(f64::from(case.taps[tap * N + channel]) * f64::from(case.x[at]))
                };
                let sum = bias + (0..TAPS).filter_map(product).sum::<f64>();
                let want = if then == Then::Silu { sum / (1.0 + (-sum).exp()) } else { sum };
                let got = f64::from(got[token * N + channel]);
                assert!((got - want).abs() < 1e-5 * want.abs().max(1.0), "{}: {got}, {want}", isa.name());
            }
        }
    }
}

#[test]
fn a_row_in_pieces_and_from_any_save_has_the_bits_of_one_whole() {
    let case = Case::new(20);
    for isa in Isa::available() {
        let with = |threads| (threads, isa, Then::Silu);
        let (one, three) = (Threads::new(1), Threads::new(3));
        let mut whole_arena = arena(4);
        let whole = case.run(with(&one), &mut whole_arena, 0, 0..20, &[(1, 1), (2, 2), (11, 3)]);
        let mut pieces_arena = arena(1);
        let mut pieces = Vec::new();
        for (start, end) in [(0, 1), (1, 2), (2, 4), (4, 5), (5, 12), (12, 20)] {
            pieces.extend(case.run(with(&three), &mut pieces_arena, 0, start..end, &[]));
        }
        assert!(same(&pieces, &whole), "{}", isa.name());
        (0..3).for_each(|block| {
            assert_eq!(pieces_arena.block(block)[..4 * N], whole_arena.block(block)[..4 * N]);
        });
        for (idx, n_tokens) in [(1, 1), (2, 2), (3, 11)] {
            let rest = case.run(with(&three), &mut whole_arena, idx, n_tokens..20, &[]);
            assert!(same(&rest, &whole[n_tokens * N..]), "{}, after {n_tokens}", isa.name());
        }
    }
}

#[test]
fn a_convolution_of_one_tap_keeps_nothing() {
    let layer = StateLayer::new(vec![], vec![], (0, 5), 64);
    let mut arena = KvArena::new(1, 64).unwrap();
    let row = StateRow { blocks: &[], start: 0, n_tokens: 2, saves: vec![] };
    let conv = Conv { taps: &[2.0; 5], bias: None, then: Then::Nothing };
    let values: Vec<f32> = (0..10).map(|i| i as f32).collect();
    let mut out = vec![0.0; 10];
    let x = Channels { values: &values, width: 5, first: 0 };
    convolve(&Threads::new(1), Isa::detect(), &mut arena, &layer, &conv, &[row], x, &mut out);
    assert_eq!(out, values.iter().map(|x| 2.0 * x).collect::<Vec<f32>>());
}
