//! Delta nets against the formulas in double precision, and the numerics rule on them.

use super::*;
use crate::state::{StateSave, StateUnit};
use crate::testing::Rng;

/// What a layer is made of, for `n` tokens.
struct Case {
    shape: DeltaShape,
    n: usize,
    /// `[n, width]`, before anything is done to it.
    qkv: Vec<f32>,
    /// `[n, 2 · n_v_heads]`
    products: Vec<f32>,
    rate: Vec<f32>,
    bias: Vec<f32>,
}

const EPS: f32 = 1e-6;

impl Case {
    fn new(shape: DeltaShape, n: usize, seed: u64) -> Case {
        let mut rng = Rng::new(seed);
        let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
        let (qkv, products) = (values(n * shape.width()), values(2 * n * shape.n_v_heads));
        let rate = values(shape.n_v_heads).iter().map(|x| -0.1 - 0.3 * x.abs()).collect();
        Case { shape, n, qkv, products, rate, bias: values(shape.n_v_heads) }
    }

    /// The values of one token's head in the matrices `beta` and `alpha`, which lie in halves of its products.
    fn gates(&self, token: usize, head: usize) -> (f64, f64) {
        let n_heads = self.shape.n_v_heads;
        let [beta, alpha] = [0, n_heads].map(|of| f64::from(self.products[2 * token * n_heads + of + head]));
        let time = (alpha + f64::from(self.bias[head])).exp().ln_1p();
        (1.0 / (1.0 + (-beta).exp()), (f64::from(self.rate[head]) * time).exp())
    }

    /// By the formulas, `[n, n_v_heads, v_dim]`.
    fn exact(&self) -> Vec<f64> {
        let DeltaShape { n_k_heads, n_v_heads, k_dim, v_dim, key_heads } = self.shape;
        let mut out = vec![0.0; self.n * n_v_heads * v_dim];
        for head in 0..n_v_heads {
            let key_head = match key_heads {
                KeyHeads::InTurn => head % n_k_heads,
                KeyHeads::Neighbours => head / (n_v_heads / n_k_heads),
            };
            let mut s = vec![0.0; k_dim * v_dim];
            for token in 0..self.n {
                let vector = |start: usize, dim: usize| -> Vec<f64> {
                    let at = token * self.shape.width() + start;
                    self.qkv[at..at + dim].iter().map(|x| f64::from(*x)).collect()
                };
                let unit = |x: Vec<f64>| -> Vec<f64> {
                    let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
                    x.iter().map(|x| x / length).collect()
                };
                let query = unit(vector(key_head * k_dim, k_dim));
                let key = unit(vector((n_k_heads + key_head) * k_dim, k_dim));
                let value = vector(2 * n_k_heads * k_dim + head * v_dim, v_dim);
                let (beta, decay) = self.gates(token, head);
                s.iter_mut().for_each(|s| *s *= decay);
                for v in 0..v_dim {
                    let known: f64 = (0..k_dim).map(|k| s[k * v_dim + v] * key[k]).sum();
                    (0..k_dim).for_each(|k| s[k * v_dim + v] += key[k] * beta * (value[v] - known));
                    let read: f64 = (0..k_dim).map(|k| s[k * v_dim + v] * query[k]).sum();
                    out[(token * n_v_heads + head) * v_dim + v] = read / (k_dim as f64).sqrt();
                }
            }
        }
        out
    }

    fn layer(&self) -> StateLayer {
        let head_bytes = self.shape.head_values() * 4;
        let heads = (0..self.shape.n_v_heads).map(|head| StateUnit { piece: head, offset: 64 }).collect();
        StateLayer::new(heads, vec![], (self.shape.head_values(), 0), head_bytes + 64)
    }

    fn arena(&self, n_states: usize) -> KvArena {
        let mut arena =
            KvArena::new(n_states * self.shape.n_v_heads, self.shape.head_values() * 4 + 64).unwrap();
        // What was there before is nobody's, and need not be numbers.
        (0..arena.n_blocks()).for_each(|block| arena.block_mut(block).fill(0xff));
        arena
    }

    /// The blocks of state `idx`.
    fn blocks(&self, idx: usize) -> Vec<u32> {
        let n = self.shape.n_v_heads as u32;
        (idx as u32 * n..(idx as u32 + 1) * n).collect()
    }

    /// Queries and keys of their lengths, and the gates, of some tokens.
    fn prepared(
        &self,
        threads: &Threads,
        isa: Isa,
        tokens: std::ops::Range<usize>,
    ) -> (Vec<f32>, TokenGates) {
        let (width, n_heads) = (self.shape.width(), self.shape.n_v_heads);
        let mut qkv = self.qkv[tokens.start * width..tokens.end * width].to_vec();
        let [mut beta, mut alpha, mut both] = [0; 3].map(|_| Vec::new());
        for products in
            self.products[2 * n_heads * tokens.start..2 * n_heads * tokens.end].chunks(2 * n_heads)
        {
            let (of_beta, of_alpha) = products.split_at(n_heads);
            beta.extend_from_slice(of_beta);
            alpha.extend_from_slice(of_alpha);
            let shared = n_heads / self.shape.n_k_heads;
            for (beta, alpha) in of_beta.chunks(shared).zip(of_alpha.chunks(shared)) {
                both.extend([beta, alpha].concat());
            }
        }
        let products = match self.shape.key_heads {
            KeyHeads::InTurn => GateProducts::Apart { beta: &beta, alpha: &alpha },
            KeyHeads::Neighbours => GateProducts::ByKeyHead(&both),
        };
        let mut gates = TokenGates::default();
        let input = GateInput { products, rate: &self.rate, bias: &self.bias };
        prepare(threads, isa, &self.shape, EPS, &mut qkv, input, &mut gates);
        (qkv, gates)
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
        let (qkv, gates) = self.prepared(threads, isa, tokens.clone());
        let blocks: Vec<Vec<u32>> = saves.iter().map(|&(_, to)| self.blocks(to)).collect();
        let saves = saves.iter().zip(&blocks).map(|(&(n_tokens, _), blocks)| StateSave { n_tokens, blocks });
        let (own, start) = (self.blocks(idx), tokens.start);
        let row = StateRow { blocks: &own, start, n_tokens: tokens.len(), saves: saves.collect() };
        let mut out = vec![f32::NAN; tokens.len() * self.shape.n_v_heads * self.shape.v_dim];
        gated_delta(threads, isa, arena, &self.layer(), &self.shape, &[row], (&qkv, &gates), &mut out);
        out
    }
}

fn shapes() -> [DeltaShape; 3] {
    let shape = |n_k_heads, n_v_heads, k_dim, v_dim, key_heads| DeltaShape {
        n_k_heads,
        n_v_heads,
        k_dim,
        v_dim,
        key_heads,
    };
    [
        shape(2, 6, 20, 48, KeyHeads::InTurn),
        shape(3, 18, 16, 16, KeyHeads::Neighbours),
        shape(1, 2, 128, 128, KeyHeads::Neighbours),
    ]
}

/// Each shape on each instruction set.
fn everywhere() -> Vec<(DeltaShape, Isa)> {
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
        let width = shape.n_v_heads * shape.v_dim;
        for (idx, n_tokens) in [(1, 1), (2, 13), (3, 14)] {
            let rest = case.run((&threads, isa), &mut arena, idx, n_tokens..30, &[]);
            assert!(same(&rest, &whole[n_tokens * width..]), "after {n_tokens}: {shape:?}, {}", isa.name());
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
        let mut arena = cases[0].arena(3);
        let blocks = [0, 1, 2].map(|idx| cases[0].blocks(idx));
        let (mut qkv, mut gates) = (Vec::new(), TokenGates::default());
        let mut rows = Vec::new();
        for (case, blocks) in cases.iter().zip(&blocks) {
            let (own, own_gates) = case.prepared(&threads, isa, 0..case.n);
            qkv.extend(own);
            gates.beta.extend(own_gates.beta);
            gates.decay.extend(own_gates.decay);
            gates.overlap.extend(own_gates.overlap);
            rows.push(StateRow { blocks, start: 0, n_tokens: case.n, saves: vec![] });
        }
        let mut out = vec![f32::NAN; 29 * shape.n_v_heads * shape.v_dim];
        gated_delta(&threads, isa, &mut arena, &cases[0].layer(), &shape, &rows, (&qkv, &gates), &mut out);
        let alone =
            cases.map(|case| case.run((&Threads::new(1), isa), &mut case.arena(1), 0, 0..case.n, &[]));
        assert!(same(&out, &alone.concat()), "{}", isa.name());
    }
}

#[test]
fn a_vector_without_length_stays_one() {
    let shape = DeltaShape { n_k_heads: 1, n_v_heads: 1, k_dim: 4, v_dim: 16, key_heads: KeyHeads::InTurn };
    let mut case = Case::new(shape, 2, 5);
    case.qkv.fill(0.0);
    for isa in Isa::available() {
        assert_eq!(case.run((&Threads::new(1), isa), &mut case.arena(1), 0, 0..2, &[]), vec![0.0; 32]);
    }
}
