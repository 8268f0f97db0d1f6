//! Queries that see keys behind them: whole texts, as encoders read them.

use super::{Ahead, AttentionParams, Data, Isa, KvFormat, Pool, Threads, layer, params};

/// Whole texts side by side.
const TEXTS: [usize; 5] = [301, 1, 18, 128, 140];

fn around(n_heads: usize, k_dim: usize, window: Option<usize>) -> AttentionParams<'static> {
    AttentionParams { ahead: Ahead::Seen, ..params(n_heads, k_dim, window, None) }
}

fn whole(texts: &[usize]) -> Vec<(usize, usize, usize)> {
    texts.iter().enumerate().map(|(seq, n)| (seq, 0, *n)).collect()
}

#[test]
fn every_token_of_a_text_sees_all_of_it_and_through_a_window_its_surroundings() {
    for isa in Isa::available() {
        for (n_heads, n_kv_heads, dims) in [(12, 12, (32, 32)), (4, 1, (64, 64)), (2, 2, (20, 33))] {
            for window in [None, Some(1), Some(2), Some(16), Some(33), Some(128), Some(129), Some(300)] {
                let layer = layer(KvFormat::F16, n_kv_heads, dims, 16);
                let params = around(n_heads, dims.0, window);
                let mut pool = Pool::new(isa, layer, params, Data::Noise, &TEXTS, 1);
                let pieces = whole(&TEXTS);
                let out = pool.step(&Threads::new(2), &pieces);
                pool.check(&pieces, &out, &format!("{layer:?} {params:?}"));
            }
        }
    }
}

#[test]
fn a_texts_bits_are_its_own_among_others_in_any_blocks_and_by_any_threads() {
    for isa in Isa::available() {
        for window in [None, Some(50)] {
            let params = around(4, 64, window);
            let step = |n_threads: usize, block_tokens: usize, texts: &[usize], order: &[usize]| {
                let layer = layer(KvFormat::F16, 2, (64, 64), block_tokens);
                let mut pool = Pool::new(isa, layer, params, Data::Outliers, texts, n_threads);
                let pieces: Vec<_> = order.iter().map(|&seq| (seq, 0, texts[seq])).collect();
                pool.step(&Threads::new(n_threads), &pieces)
            };
            let alone: Vec<Vec<f32>> = (0..TEXTS.len()).map(|seq| step(1, 32, &TEXTS, &[seq])).collect();
            for (n_threads, block_tokens, order) in
                [(1, 16, [0, 1, 2, 3, 4]), (2, 32, [4, 2, 0, 1, 3]), (5, 64, [1, 4, 3, 2, 0])]
            {
                let got = step(n_threads, block_tokens, &TEXTS, &order);
                let want: Vec<f32> = order.iter().flat_map(|&seq| alone[seq].clone()).collect();
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                assert!(bits(&got) == bits(&want), "{} {window:?}, {n_threads} threads", isa.name());
            }
        }
    }
}
