//! Mamba-2 against the formulas in double precision, and the numerics rule on it.

use super::*;
use crate::state::{StateSave, StateUnit};
use crate::testing::Rng;

/// What a layer is made of, for `n` tokens.
struct Case {
    shape: ScanShape,
    n: usize,
    /// `[n, width]`
    mixed: Vec<f32>,
    /// `[n, n_heads]`
    products: Vec<f32>,
    rate: Vec<f32>,
    bias: Vec<f32>,
    skip: Vec<f32>,
}

impl Case {
    fn new(shape: ScanShape, n: usize, seed: u64) -> Case {
        let mut rng = Rng::new(seed);
        let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
        let n_heads = shape.n_heads;
        let (mixed, products) = (values(n * shape.width()), values(n * n_heads));
        let rate = values(n_heads).iter().map(|x| -0.1 - 0.3 * x.abs()).collect();
        Case { shape, n, mixed, products, rate, bias: values(n_heads), skip: values(n_heads) }
    }

    /// By the formulas, `[n, n_heads, head_dim]`.
    fn exact(&self) -> Vec<f64> {
        let ScanShape { n_heads, head_dim, n_groups, n_states } = self.shape;
        let mut out = vec![0.0; self.n * n_heads * head_dim];
        for head in 0..n_heads {
            let group = head / (n_heads / n_groups);
            let mut h = vec![0.0; head_dim * n_states];
            for token in 0..self.n {
                let values = |start: usize, n: usize| -> Vec<f64> {
                    let at = token * self.shape.width() + start;
                    self.mixed[at..at + n].iter().map(|x| f64::from(*x)).collect()
                };
                let x = values(head * head_dim, head_dim);
                let b = values(n_heads * head_dim + group * n_states, n_states);
                let c = values(n_heads * head_dim + (n_groups + group) * n_states, n_states);
                let product = f64::from(self.products[token * n_heads + head]);
                let step = (product + f64::from(self.bias[head])).exp().ln_1p();
                let decay = (step * f64::from(self.rate[head])).exp();
                for (p, x) in x.iter().enumerate() {
                    let of_input = &mut h[p * n_states..][..n_states];
                    of_input.iter_mut().zip(&b).for_each(|(h, b)| *h = *h * decay + step * x * b);
                    let read: f64 = of_input.iter().zip(&c).map(|(h, c)| h * c).sum();
                    out[(token * n_heads + head) * head_dim + p] = read + f64::from(self.skip[head]) * x;
                }
            }
        }
        out
    }

    fn layer(&self) -> StateLayer {
        let head_bytes = self.shape.head_values() * 4;
        let heads = (0..self.shape.n_heads).map(|head| StateUnit { piece: head, offset: 64 }).collect();
        StateLayer::new(heads, vec![], (self.shape.head_values(), 0), head_bytes + 64)
    }

    fn arena(&self, n_states: usize) -> KvArena {
        let block_bytes = self.shape.head_values() * 4 + 64;
        let mut arena = KvArena::new(n_states * self.shape.n_heads, block_bytes).unwrap();
        // What was there before is nobody's, and need not be numbers.
        (0..arena.n_blocks()).for_each(|block| arena.block_mut(block).fill(0xff));
        arena
    }

    /// The blocks of state `idx`.
    fn blocks(&self, idx: usize) -> Vec<u32> {
        let n = self.shape.n_heads as u32;
        (idx as u32 * n..(idx as u32 + 1) * n).collect()
    }

    fn steps(&self, threads: &Threads, isa: Isa, tokens: std::ops::Range<usize>) -> TokenSteps {
        let (n_heads, mut steps) = (self.shape.n_heads, TokenSteps::default());
        let products = &self.products[tokens.start * n_heads..tokens.end * n_heads];
        prepare(threads, isa, products, (&self.rate, &self.bias), &mut steps);
        steps
    }

    /// The next tokens of state `idx`, with saves of states after so many of them.
    fn run(
        &self,
        (threads, isa): (&Threads, Isa),
        arena: &mut KvArena,
        idx: usize,
        tokens: std::ops::Range<usize>,
        saves: &[(usize, usize)],
    ) -> Vec<f32> {
        let (width, steps) = (self.shape.width(), self.steps(threads, isa, tokens.clone()));
        let blocks: Vec<Vec<u32>> = saves.iter().map(|&(_, to)| self.blocks(to)).collect();
        let saves = saves.iter().zip(&blocks).map(|(&(n_tokens, _), blocks)| StateSave { n_tokens, blocks });
        let own = self.blocks(idx);
        let row =
            StateRow { blocks: &own, start: tokens.start, n_tokens: tokens.len(), saves: saves.collect() };
        let mixed = &self.mixed[tokens.start * width..tokens.end * width];
        let mut out = vec![f32::NAN; tokens.len() * self.shape.inner()];
        let input = ScanInput { mixed, steps: &steps, skip: &self.skip };
        scan(threads, isa, arena, &self.layer(), &self.shape, &[row], input, &mut out);
        out
    }
}

fn shapes() -> [ScanShape; 3] {
    let shape = |n_heads, head_dim, n_groups, n_states| ScanShape { n_heads, head_dim, n_groups, n_states };
    [shape(6, 48, 2, 20), shape(18, 16, 3, 16), shape(2, 64, 1, 128)]
}

/// Each shape on each instruction set.
fn everywhere() -> Vec<(ScanShape, Isa)> {
    shapes().into_iter().flat_map(|shape| Isa::available().into_iter().map(move |isa| (shape, isa))).collect()
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn every_instruction_set_computes_what_the_formulas_do() {
    for (shape, seed) in shapes().into_iter().zip(1..) {
        let case = Case::new(shape, 70, seed);
        let want = case.exact();
        let scale = want.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        for isa in Isa::available() {
            let got = case.run((&Threads::new(2), isa), &mut case.arena(1), 0, 0..70, &[]);
            let far = got.iter().zip(&want).map(|(got, want)| (f64::from(*got) - want).abs());
            // Not `max`, which would lose what is no number.
            let worst = far.fold(0.0, |worst, x| if x > worst || x.is_nan() { x } else { worst }) / scale;
            assert!(worst < 1e-5, "{shape:?}, {}: off by {worst:e}", isa.name());
        }
    }
}

#[test]
fn a_row_in_pieces_on_any_threads_has_the_bits_of_one_whole() {
    for (shape, isa) in everywhere() {
        let case = Case::new(shape, 40, 7);
        let mut whole_arena = case.arena(1);
        let whole = case.run((&Threads::new(1), isa), &mut whole_arena, 0, 0..40, &[]);
        for n_threads in [1, 3] {
            let (threads, mut arena, mut got) = (Threads::new(n_threads), case.arena(1), Vec::new());
            for (start, end) in [(0, 1), (1, 3), (3, 20), (20, 21), (21, 40)] {
                got.extend(case.run((&threads, isa), &mut arena, 0, start..end, &[]));
            }
            assert!(same(&got, &whole), "{shape:?}, {}, {n_threads} threads", isa.name());
            for block in 0..arena.n_blocks() {
                assert_eq!(arena.block(block), whole_arena.block(block));
            }
        }
    }
}

#[test]
fn a_saved_state_goes_on_with_the_bits_of_the_row_that_left_it() {
    for (shape, isa) in everywhere() {
        let (case, threads) = (Case::new(shape, 30, 9), Threads::new(2));
        let mut arena = case.arena(5);
        let whole = case.run((&threads, isa), &mut arena, 0, 0..30, &[(1, 1), (13, 2), (14, 3), (30, 4)]);
        assert!(same(&whole, &case.run((&threads, isa), &mut case.arena(1), 0, 0..30, &[])));
        for (idx, n_tokens) in [(1, 1), (2, 13), (3, 14)] {
            let rest = case.run((&threads, isa), &mut arena, idx, n_tokens..30, &[]);
            let after = &whole[n_tokens * shape.inner()..];
            assert!(same(&rest, after), "after {n_tokens}: {shape:?}, {}", isa.name());
        }
        for (own, saved) in case.blocks(0).into_iter().zip(case.blocks(4)) {
            // The unit, without what lies before it.
            assert_eq!(arena.block(own as usize)[64..], arena.block(saved as usize)[64..]);
        }
    }
}

#[test]
fn rows_side_by_side_have_the_bits_of_each_alone() {
    let (shape, threads) = (shapes()[0], Threads::new(3));
    for isa in Isa::available() {
        let cases = [Case::new(shape, 3, 11), Case::new(shape, 25, 12), Case::new(shape, 1, 13)];
        // One layer: the heads' own values are those of the first.
        let [first, ..] = &cases;
        let others = [1, 2].map(|i| {
            let (mixed, products) = (cases[i].mixed.clone(), cases[i].products.clone());
            let (rate, bias, skip) = (first.rate.clone(), first.bias.clone(), first.skip.clone());
            Case { shape, n: cases[i].n, mixed, products, rate, bias, skip }
        });
        let all = [first, &others[0], &others[1]];
        let mut arena = first.arena(3);
        let blocks = [0, 1, 2].map(|idx| first.blocks(idx));
        let (mut mixed, mut steps, mut rows) = (Vec::new(), TokenSteps::default(), Vec::new());
        for (case, blocks) in all.iter().zip(&blocks) {
            let own = case.steps(&threads, isa, 0..case.n);
            mixed.extend_from_slice(&case.mixed);
            steps.step.extend(own.step);
            steps.decay.extend(own.decay);
            rows.push(StateRow { blocks, start: 0, n_tokens: case.n, saves: vec![] });
        }
        let mut out = vec![f32::NAN; 29 * shape.inner()];
        let input = ScanInput { mixed: &mixed, steps: &steps, skip: &first.skip };
        scan(&threads, isa, &mut arena, &first.layer(), &shape, &rows, input, &mut out);
        let alone = all.map(|case| case.run((&Threads::new(1), isa), &mut case.arena(1), 0, 0..case.n, &[]));
        assert!(same(&out, &alone.concat()), "{}", isa.name());
    }
}

#[test]
#[should_panic(expected = "6 heads in 4 groups")]
fn heads_that_share_nothing_evenly_are_refused() {
    let case = Case::new(shapes()[0], 1, 1);
    let (shape, mut arena) = (ScanShape { n_groups: 4, ..case.shape }, case.arena(1));
    let steps = case.steps(&Threads::new(1), Isa::detect(), 0..1);
    let input = ScanInput { mixed: &case.mixed, steps: &steps, skip: &case.skip };
    scan(&Threads::new(1), Isa::detect(), &mut arena, &case.layer(), &shape, &[], input, &mut []);
}
