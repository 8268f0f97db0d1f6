//! Attention by candle's operations against the paged kernels, on random shapes, windows and soft-caps.

use candle_core::Tensor;
use kernels::attention::{Ahead, AttentionParams, AttentionRow, attention};
use kernels::kv::{KvArena, KvFormat as ArenaFormat, KvLayer, store_kv};
use kernels::threads::Threads;
use scheduler::{AttentionSpan, KvLayout, LayerCache, LayerKv, ModelCacheSpec, ValuePlace};

use super::*;
use crate::gpu::attention::attend;
use crate::gpu::kv_pool::KvPool;
use crate::gpu::part::{KvFormat, Part};
use crate::gpu::shaders::Shaders;
use crate::gpu::tiles::{TileLimits, Tiles};
use crate::plan::model_plan::{AttentionPlan, KvPlan, NormOver};

/// Sums in another order, and the kernels' own polynomials for exp and tanh: what f32 loses by that.
const BOUND: f32 = 1e-5;

const CASES: u64 = 700;

/// One random layer, its rows and where their blocks lie.
#[derive(Debug)]
struct Case {
    dtype: KvDtype,
    block_tokens: usize,
    n_kv_heads: usize,
    n_heads: usize,
    k_dim: usize,
    v_dim: usize,
    window: Option<usize>,
    softcap: Option<f32>,
    /// Start, tokens and first block of each row, and its block ids.
    rows: Vec<(usize, usize, usize, Vec<u32>)>,
}

impl Case {
    fn random(dice: &mut Dice) -> Case {
        let block_tokens = dice.pick(&[16, 32]);
        let n_kv_heads = 1 + dice.below(3);
        let window = (dice.below(2) == 0).then(|| 1 + dice.below(80));
        let k_dim = dice.pick(&[16, 32, 40, 64, 72]);
        let mut next_block = 0;
        let mut row = |dice: &mut Dice| {
            let n_tokens = if dice.below(2) == 0 { 1 } else { 1 + dice.below(40) };
            let start = dice.below(120);
            let first_seen = window.map_or(0, |window| (start + 1).saturating_sub(window));
            // Blocks that no query sees may be gone or not.
            let first_block = if dice.below(2) == 0 { 0 } else { first_seen / block_tokens };
            let n_blocks = (start + n_tokens).div_ceil(block_tokens) - first_block;
            // Out of order, as a pool hands them out: from the last to the first.
            let blocks = (0..n_blocks as u32).rev().map(|i| next_block + i).collect();
            next_block += n_blocks as u32;
            (start, n_tokens, first_block, blocks)
        };
        let n_rows = 1 + dice.below(4);
        Case {
            dtype: dice.pick(&[KvDtype::F16, KvDtype::F16, KvDtype::Q8]),
            block_tokens,
            n_kv_heads,
            n_heads: n_kv_heads * (1 + dice.below(4)),
            k_dim,
            v_dim: if dice.below(3) == 0 { dice.pick(&[16, 48, 64]) } else { k_dim },
            window,
            softcap: (dice.below(3) == 0).then(|| 0.5 + dice.below(20) as f32),
            rows: std::iter::repeat_with(|| row(dice)).take(n_rows).collect(),
        }
    }

    fn n_blocks(&self) -> usize {
        self.rows.iter().map(|(.., blocks)| blocks.len()).sum()
    }

    fn span(&self) -> AttentionSpan {
        self.window.map_or(AttentionSpan::Full, |tokens| AttentionSpan::Window { tokens })
    }

    fn layout(&self) -> KvLayout {
        let Case { n_kv_heads, k_dim, v_dim, .. } = *self;
        let v_place = ValuePlace::BesideKeys;
        let layer = LayerKv::Own(LayerCache { n_kv_heads, k_dim, v_dim, v_place, span: self.span() });
        // Two layers, of which the second is looked at: its parts do not start at 0.
        let spec = ModelCacheSpec { layers: vec![layer; 2], max_context: 4096, n_vocab: 1 };
        KvLayout::new(&spec, self.block_tokens, self.dtype).unwrap()
    }

    /// Each row, from the position `from` of its index to `to` of it.
    fn rows(&self, from: impl Fn(usize) -> usize, to: impl Fn(usize) -> usize) -> Vec<AttentionRow<'_>> {
        let mut rows = Vec::new();
        for (i, (_, _, first_block, blocks)) in self.rows.iter().enumerate() {
            let (start, n_tokens) = (from(i), to(i) - from(i));
            rows.push(AttentionRow { blocks, first_block: *first_block, start, n_tokens });
        }
        rows
    }
}

/// What both forms make of `case`: the distance of their outputs.
fn compare(case: &Case, dice: &mut Dice, shaders: &Shaders) -> f32 {
    let (threads, isa) = (Threads::new(1), Isa::detect());
    let layout = case.layout();
    let slot = layout.slots[1].unwrap();
    let kv_layer = KvLayer {
        n_kv_heads: case.n_kv_heads,
        k_dim: case.k_dim,
        v_dim: case.v_dim,
        block_tokens: case.block_tokens,
        block_bytes: layout.block_bytes,
        k_offset: slot.k_offset,
        v_offset: slot.v_offset,
        dtype: if case.dtype == KvDtype::Q8 { ArenaFormat::Q8 } else { ArenaFormat::F16 },
    };
    let mut arena = KvArena::new(case.n_blocks(), layout.block_bytes).unwrap();
    let pool = KvPool::new(&Device::Cpu, shaders.clone(), case.n_blocks(), &layout).unwrap();
    // What was left behind by others must not be seen.
    for block in 0..case.n_blocks() {
        arena.block_mut(block).fill(0xff);
        pool.write(block, 0, &vec![0xff; layout.block_bytes]).unwrap();
    }
    let format = KvFormat::of(case.dtype).unwrap();
    let part = |offset, dim| Part::new(format, &layout, offset, (case.n_kv_heads, dim));
    let (k_part, v_part) = (part(slot.k_offset, case.k_dim), part(slot.v_offset.unwrap(), case.v_dim));

    // Everything from the first position that a block is there for.
    let end = |i: usize| case.rows[i].0 + case.rows[i].1;
    let stored = case.rows(|i| case.rows[i].2 * case.block_tokens, end);
    let n_stored: usize = stored.iter().map(|row| row.n_tokens).sum();
    let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| 3.0 * dice.value()).collect() };
    let keys = values(n_stored * case.n_kv_heads * case.k_dim);
    let vals = values(n_stored * case.n_kv_heads * case.v_dim);
    store_kv(&threads, isa, &mut arena, &kv_layer, &stored, keys.as_slice(), &vals);
    let slots = pool.slots_of(&stored).unwrap();
    let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
    pool.store(&k_part, &tensor(&keys), &slots).unwrap();
    pool.store(&v_part, &tensor(&vals), &slots).unwrap();

    let rows = case.rows(|i| case.rows[i].0, end);
    let n_tokens: usize = rows.iter().map(|row| row.n_tokens).sum();
    let q = values(n_tokens * case.n_heads * case.k_dim);
    let (scale, softcap, n_heads) = (1.0 / (case.k_dim as f32).sqrt(), case.softcap, case.n_heads);
    let (window, ahead) = (case.window, Ahead::Hidden);
    let params = AttentionParams { n_heads, scale, window, ahead, softcap, sinks: None };
    let mut want = vec![0.0; n_tokens * n_heads * case.v_dim];
    attention(&threads, isa, &arena, &kv_layer, &params, &rows, &q, &mut want);

    // Small enough that rows are cut into several tiles.
    let limits = TileLimits::new(n_heads, case.n_kv_heads * (case.k_dim + case.v_dim)).at_most(20_000);
    let tiles = Tiles::new(&rows, case.window, case.block_tokens, limits, &Device::Cpu).unwrap();
    let q = tensor(&q).reshape((n_tokens, n_heads, case.k_dim)).unwrap();
    let Case { n_kv_heads, k_dim, v_dim, .. } = *case;
    let span = case.span();
    let plan = AttentionPlan {
        n_heads,
        n_kv_heads,
        k_dim,
        v_dim,
        span,
        ahead,
        scale,
        softcap,
        rope_idx: None,
        norm_over: NormOver::Heads,
        temperature: None,
        kv: KvPlan::Own,
        norms_values: false,
        is_gated: false,
    };
    let got = attend(&pool, &k_part, &v_part, &plan, &tiles, &q).unwrap();
    assert_eq!(got.dims(), [n_tokens, n_heads * case.v_dim]);
    distance(&got.flatten_all().unwrap().to_vec1::<f32>().unwrap(), &want)
}

fn check(shaders: &Shaders) {
    let mut worst: f32 = 0.0;
    for seed in 0..CASES {
        let mut dice = Dice(seed);
        let case = Case::random(&mut dice);
        let distance = compare(&case, &mut dice, shaders);
        assert!(distance <= BOUND, "case {seed} is off by {distance}: {case:?}");
        worst = worst.max(distance);
    }
    println!("{CASES} cases, the worst off by {worst:.1e}");
}

#[test]
fn attention_in_candle_operations_equals_the_paged_kernels() {
    check(&Shaders::new(&Device::Cpu).unwrap());
}

#[test]
fn attention_cut_as_for_fused_kernels_equals_the_paged_kernels() {
    check(&Shaders::like_metal());
}
