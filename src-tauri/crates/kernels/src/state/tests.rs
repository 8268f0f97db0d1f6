//! What a layer's state may be, and what rows may not.

use super::*;

fn unit(piece: usize, offset: usize) -> StateUnit {
    StateUnit { piece, offset }
}

/// Two heads of 16 values and two columns of 20, in three pieces of which the second is another layer's.
fn layer() -> StateLayer {
    StateLayer::new(vec![unit(0, 0), unit(0, 64)], vec![unit(0, 128), unit(2, 64)], (16, 20), 256)
}

fn row<'a>(blocks: &'a [u32], saves: &[(usize, &'a [u32])]) -> StateRow<'a> {
    let saves = saves.iter().map(|&(n_tokens, blocks)| StateSave { n_tokens, blocks }).collect();
    StateRow { blocks, start: 0, n_tokens: 5, saves }
}

fn check(rows: &[StateRow<'_>]) -> usize {
    layer().check(&KvArena::new(8, 256).unwrap(), rows)
}

#[test]
fn units_lie_where_the_layer_says_in_each_states_own_blocks() {
    let (layer, arena) = (layer(), KvArena::new(8, 256).unwrap());
    let blocks = [3, 0, 6];
    let start = |block: usize| arena.block(block).as_ptr() as usize;
    // SAFETY: nothing is read or written.
    let at = unsafe {
        [layer.head(&arena, &blocks, 0), layer.head(&arena, &blocks, 1), layer.column(&arena, &blocks, 1)]
    };
    assert_eq!(at.map(|at| at as usize), [start(3), start(3) + 64, start(6) + 64]);
    assert_eq!(
        (layer.n_heads(), layer.head_values(), layer.n_columns(), layer.column_values()),
        (2, 16, 2, 20)
    );
}

#[test]
fn rows_with_states_and_saves_apart_are_taken_and_their_tokens_counted() {
    assert_eq!(check(&[row(&[1, 0, 2], &[(1, &[3, 0, 4]), (5, &[5, 0, 6])]), row(&[7, 0, 0], &[])]), 10);
    assert_eq!(check(&[]), 0);
}

#[test]
#[should_panic(expected = "block 1 holds two states")]
fn two_rows_of_one_state_are_refused() {
    check(&[row(&[1, 0, 2], &[]), row(&[3, 0, 1], &[])]);
}

#[test]
#[should_panic(expected = "block 2 holds two states")]
fn a_save_onto_the_state_itself_is_refused() {
    check(&[row(&[1, 0, 2], &[(3, &[2, 0, 4])])]);
}

#[test]
#[should_panic(expected = "block 8 of 8")]
fn a_block_that_does_not_exist_is_refused() {
    check(&[row(&[1, 0, 8], &[])]);
}

#[test]
#[should_panic(expected = "2 blocks of a state of 3")]
fn a_state_with_too_few_blocks_is_refused() {
    check(&[row(&[1, 0], &[])]);
}

#[test]
#[should_panic(expected = "a save after 2 of 5 tokens, behind one after 2")]
fn saves_that_do_not_ascend_are_refused() {
    check(&[row(&[1, 0, 2], &[(2, &[3, 0, 4]), (2, &[5, 0, 6])])]);
}

#[test]
#[should_panic(expected = "a save after 6 of 5 tokens")]
fn a_save_behind_the_row_is_refused() {
    check(&[row(&[1, 0, 2], &[(6, &[3, 0, 4])])]);
}

#[test]
#[should_panic(expected = "64 bytes at 0 of piece 1 overlap those at 0")]
fn units_that_overlap_are_refused() {
    StateLayer::new(vec![unit(1, 0)], vec![unit(1, 0)], (16, 20), 256);
}

#[test]
#[should_panic(expected = "80 bytes at 192 of piece 0 in a block of 256")]
fn a_unit_beyond_its_block_is_refused() {
    StateLayer::new(vec![], vec![unit(0, 192)], (16, 20), 256);
}
