//! What would read or write memory that is not there.

use super::{AttentionRow, Isa, KvArena, KvFormat, KvLayer, Threads, attention, layer, params, store_kv};

#[test]
#[should_panic(expected = "positions 0..33 need blocks 0..=1; the table has 1 from 0")]
fn a_table_that_is_too_short_is_refused() {
    let layer = layer(KvFormat::F16, 1, (16, 16), 32);
    let arena = KvArena::new(1, layer.block_bytes).unwrap();
    let row = AttentionRow { blocks: &[0], first_block: 0, start: 32, n_tokens: 1 };
    let (q, mut out) = ([0f32; 16], [0f32; 16]);
    attention(
        &Threads::new(1),
        Isa::SCALAR,
        &arena,
        &layer,
        &params(1, 16, None, None),
        &[row],
        &q,
        &mut out,
    );
}

#[test]
#[should_panic(expected = "block 7 of 1")]
fn a_block_outside_the_pool_is_refused() {
    let layer = layer(KvFormat::F16, 1, (16, 16), 32);
    let mut arena = KvArena::new(1, layer.block_bytes).unwrap();
    let row = AttentionRow { blocks: &[7], first_block: 0, start: 0, n_tokens: 1 };
    store_kv(&Threads::new(1), Isa::SCALAR, &mut arena, &layer, &[row], &[0f32; 16][..], &[0f32; 16]);
}

#[test]
#[should_panic(expected = "33 values in keys of 32")]
fn values_that_are_longer_than_the_keys_that_they_are_in_are_refused() {
    let layer = KvLayer { v_offset: None, v_dim: 33, ..layer(KvFormat::F16, 1, (32, 16), 32) };
    let mut arena = KvArena::new(1, layer.block_bytes).unwrap();
    let row = AttentionRow { blocks: &[0], first_block: 0, start: 0, n_tokens: 1 };
    store_kv(&Threads::new(1), Isa::SCALAR, &mut arena, &layer, &[row], &[0f32; 32][..], &[]);
}
