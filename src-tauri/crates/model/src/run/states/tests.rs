//! What of states a step may say, and how chunks share it.

use scheduler::{
    AttentionSpan, BlockTable, KvDtype, KvLayout, LayerCache, LayerKv, LayerState, ModelCacheSpec, RowInput,
    RowState, SeqId, Step, ValuePlace, Wanted,
};

use super::*;
use crate::run::batch::{self, Batch};

const N_BLOCKS: usize = 20;

/// A layer with a state of two blocks beside one that attends.
fn spec() -> ModelCacheSpec {
    let (v_place, span) = (ValuePlace::BesideKeys, AttentionSpan::Full);
    let cache = LayerCache { n_kv_heads: 1, k_dim: 16, v_dim: 16, v_place, span };
    let state = LayerState { n_heads: 2, head_values: 200, n_columns: 1, column_values: 30 };
    ModelCacheSpec { layers: vec![LayerKv::State(state), LayerKv::Own(cache)], max_context: 100, n_vocab: 10 }
}

fn layout() -> KvLayout {
    KvLayout::new(&spec(), 16, KvDtype::F16).unwrap()
}

fn ids(blocks: &[u32]) -> Vec<BlockId> {
    blocks.iter().copied().map(BlockId).collect()
}

/// `len` tokens of sequence `seq` from `start` on, with these blocks of its state and saves.
fn row(seq: u64, (start, len): (usize, usize), blocks: &[u32], saves: &[(usize, &[u32])]) -> Row {
    let save = |&(n_tokens, blocks): &(usize, &[u32])| scheduler::StateSave { n_tokens, blocks: ids(blocks) };
    Row {
        seq: SeqId(seq),
        input: RowInput::Tokens(vec![1; len]),
        start,
        tables: vec![BlockTable { first_block: 0, blocks: ids(&[19; 7]) }],
        state: RowState { blocks: ids(blocks), saves: saves.iter().map(save).collect() },
        wanted: Wanted::Nothing,
    }
}

fn refusal(rows: Vec<Row>) -> String {
    let step = Step { copies: vec![], rows };
    batch::check(&step, &spec(), &layout(), N_BLOCKS).expect_err("a refusal").to_string()
}

#[test]
fn states_that_contradict_the_layout_or_each_other_are_refused() {
    assert_eq!(layout().state.n_pieces, 2);
    let check = |rows: Vec<Row>, want: &str| {
        let cause = refusal(rows);
        assert!(cause.contains(want), "{cause:?} does not say {want:?}");
    };
    let one = |blocks: &[u32], saves: &[(usize, &[u32])]| vec![row(1, (0, 5), blocks, saves)];
    check(one(&[], &[]), "a state of 0 blocks where 2 are needed");
    check(one(&[0, 1, 2], &[]), "a state of 3 blocks where 2 are needed");
    check(one(&[0, 20], &[]), "20");
    check(one(&[0, 0], &[]), "block 0 of a state of sequence 1 is another state's");
    check(one(&[0, 1], &[(3, &[2])]), "a state of 1 blocks where 2 are needed");
    check(one(&[0, 1], &[(3, &[2, 1])]), "block 1 of a state of sequence 1 is another state's");
    check(one(&[0, 1], &[(3, &[2, 77])]), "77");
    check(one(&[0, 1], &[(0, &[2, 3])]), "after 0 of 5 tokens");
    check(one(&[0, 1], &[(6, &[2, 3])]), "after 6 of 5 tokens");
    check(one(&[0, 1], &[(3, &[2, 3]), (3, &[4, 5])]), "after 3 of 5 tokens, behind one after 3");
    check(one(&[0, 1], &[(4, &[2, 3]), (3, &[4, 5])]), "after 3 of 5 tokens, behind one after 4");
    let two = |first: &[u32], second: &[u32], save: &[u32]| {
        vec![row(1, (0, 5), first, &[]), row(2, (7, 2), second, &[(1, save)])]
    };
    check(two(&[0, 1], &[2, 0], &[4, 5]), "block 0 of a state of sequence 2 is another state's");
    check(two(&[0, 1], &[2, 3], &[4, 1]), "block 1 of a state of sequence 2 is another state's");
    let step = Step { copies: vec![], rows: two(&[0, 1], &[2, 3], &[4, 5]) };
    batch::check(&step, &spec(), &layout(), N_BLOCKS).unwrap();
}

#[test]
fn a_chunk_has_the_states_and_the_saves_that_lie_within_it() {
    let saves: &[(usize, &[u32])] = &[(2, &[4, 5]), (3, &[6, 7]), (9, &[8, 9]), (10, &[10, 11])];
    let step =
        Step { copies: vec![], rows: vec![row(1, (0, 2), &[0, 1], &[]), row(2, (30, 10), &[2, 3], saves)] };
    let layout = layout();
    batch::check(&step, &spec(), &layout, N_BLOCKS).unwrap();
    let batch = Batch::new(&step, &layout, 5);
    let described = |state: &StateRow<'_>| {
        let saves: Vec<(usize, Vec<u32>)> =
            state.saves.iter().map(|save| (save.n_tokens, save.blocks.to_vec())).collect();
        (state.blocks.to_vec(), state.start, state.n_tokens, saves)
    };
    let chunks: Vec<Vec<_>> =
        batch.chunks.iter().map(|chunk| chunk.states.iter().map(described).collect()).collect();
    assert_eq!(
        chunks,
        [
            vec![(vec![0, 1], 0, 2, vec![]), (vec![2, 3], 30, 3, vec![(2, vec![4, 5]), (3, vec![6, 7])]),],
            vec![(vec![2, 3], 33, 5, vec![])],
            vec![(vec![2, 3], 38, 2, vec![(1, vec![8, 9]), (2, vec![10, 11])])],
        ]
    );
}
