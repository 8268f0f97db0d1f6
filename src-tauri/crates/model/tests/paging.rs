//! The numerics rule on real models: a token's logits depend on its sequence and position only, bit for bit.
//!
//! The baseline is each sequence alone, in one step. Against it: random blocks, random chunk edges, sequences at
//! different positions in the same steps, windows that close, one thread or two, and blocks that went out of the
//! pool and came back elsewhere.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::load_with;
use common::sequence::{Blocks, Random, Sequence};
use common::vectors::{GEMMA3, SMOLLM2, references};
use model::PoolSize;
use scheduler::{BlockPart, KvDtype, Logits, LogitsWanted, ModelRunner, Step};

/// The baseline: the hash of each position's logits.
struct Baseline {
    tokens: Vec<u32>,
    hashes: Vec<u64>,
}

/// The long texts of a model's references, cut to `lengths`.
fn texts(name: &str, lengths: &[usize]) -> Vec<Vec<u32>> {
    let references = references(&format!("{name}.vec"));
    let long = ["long_code", "long_table", "long_story"];
    let text = |i: usize| references.iter().find(|text| text.name == long[i % 3]).unwrap();
    lengths.iter().enumerate().map(|(i, &n)| text(i).tokens[..n].to_vec()).collect()
}

fn runner(model: &str, n_threads: usize, kv_dtype: KvDtype) -> Box<dyn ModelRunner> {
    load_with(model, |options| {
        options.n_threads = n_threads;
        options.kv_dtype = kv_dtype;
        options.pool = PoolSize::Blocks(700);
    })
}

fn baselines(runner: &mut dyn ModelRunner, texts: &[Vec<u32>]) -> Vec<Baseline> {
    let layout = runner.layout().clone();
    let alone = |tokens: &Vec<u32>| {
        let mut blocks = Blocks::in_order(runner.n_blocks());
        let mut sequence = Sequence::new(1, tokens, &layout);
        let row = sequence.next_row(tokens.len(), &layout, &mut blocks, LogitsWanted::All);
        let mut logits = Logits::default();
        runner.run(&Step { copies: vec![], rows: vec![row] }, &mut logits).unwrap();
        let hashes = (0..tokens.len()).map(|i| hash(logits.row(i))).collect();
        Baseline { tokens: tokens.clone(), hashes }
    };
    texts.iter().map(alone).collect()
}

/// Every bit of a row of logits, in one number.
fn hash(logits: &[f32]) -> u64 {
    logits.iter().fold(17, |hash: u64, x| (hash ^ u64::from(x.to_bits())).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Compute the next `pieces[i]` tokens of each sequence in one step, and hold the logits against the baselines'.
fn advance(
    runner: &mut dyn ModelRunner,
    sequences: &mut [Sequence],
    pieces: &[usize],
    blocks: &mut Blocks,
    baselines: &[Baseline],
) {
    let layout = runner.layout().clone();
    let mut step = Step::default();
    for (sequence, &n) in sequences.iter_mut().zip(pieces).filter(|(_, n)| **n > 0) {
        let wanted = if n <= 3 { LogitsWanted::All } else { LogitsWanted::Last };
        step.rows.push(sequence.next_row(n, &layout, blocks, wanted));
    }
    let mut logits = Logits::default();
    runner.run(&step, &mut logits).unwrap();
    assert!(logits.n_rows() >= step.rows.len());
    for (i, &(row, token)) in logits.origin.iter().enumerate() {
        let Step { rows, .. } = &step;
        let (seq, position) = (rows[row].seq.0, rows[row].start + token);
        let want = baselines[seq as usize].hashes[position];
        assert_eq!(hash(logits.row(i)), want, "sequence {seq} at {position}, rows {pieces:?}");
    }
    sequences.iter_mut().for_each(|sequence| sequence.close_windows(&layout, blocks));
}

fn check(model: &str, name: &str, lengths: &[usize]) {
    let _alone = common::alone();
    let mut first = runner(model, 2, KvDtype::F16);
    let baselines = baselines(&mut *first, &texts(name, lengths));
    let mut random = Random(7);
    for mut runner in [first, runner(model, 1, KvDtype::F16)] {
        let layout = runner.layout().clone();
        let mut blocks = Blocks::shuffled(runner.n_blocks(), &mut random);
        let mut sequences: Vec<Sequence> =
            (0..).zip(&baselines).map(|(id, text)| Sequence::new(id, &text.tokens, &layout)).collect();
        let sizes = [0, 1, 1, 2, 3, 16, 31, 33, 64, 97, 128, 130, 170];
        while sequences.iter().any(|sequence| sequence.n_left() > 0) {
            let piece = |sequence: &Sequence| sizes[random.below(sizes.len())].min(sequence.n_left());
            let pieces: Vec<usize> = sequences.iter().map(piece).collect();
            if pieces.iter().any(|&n| n > 0) {
                advance(&mut *runner, &mut sequences, &pieces, &mut blocks, &baselines);
            }
        }
        let has_windows = layout.groups.iter().any(|group| group.span != scheduler::AttentionSpan::Full);
        let has_closed = sequences[0].tables.iter().any(|table| table.first_block > 0);
        assert_eq!(has_closed, has_windows, "a window of the first sequence closes");
    }
}

#[test]
fn smollm2_paged_batched_and_chunked_has_the_bits_of_a_sequence_alone() {
    check(SMOLLM2, "smollm2", &[420, 333, 150]);
}

#[test]
fn gemma3_paged_batched_and_chunked_has_the_bits_of_a_sequence_alone() {
    check(GEMMA3, "gemma3", &[780, 560, 100]);
}

/// A sequence goes on in another pool, on another number of threads, in other blocks.
fn check_moved(model: &str, name: &str, kv_dtype: KvDtype, n_tokens: usize) {
    let _alone = common::alone();
    let texts = texts(name, &[n_tokens]);
    let (mut first, mut second) = (runner(model, 2, kv_dtype), runner(model, 1, kv_dtype));
    let baselines = baselines(&mut *first, &texts);
    let layout = first.layout().clone();
    let mut random = Random(3);
    let (mut here, mut there) =
        (Blocks::shuffled(first.n_blocks(), &mut random), Blocks::shuffled(second.n_blocks(), &mut random));
    let mut sequences = [Sequence::new(0, &texts[0], &layout)];
    let moved_at = n_tokens - 30;
    advance(&mut *first, &mut sequences, &[moved_at], &mut here, &baselines);

    let token_bytes = layout.block_bytes / layout.block_tokens;
    for (group_idx, table) in sequences[0].tables.iter_mut().enumerate() {
        for (idx, block) in table.blocks.iter_mut().enumerate() {
            let start = (table.first_block + idx) * layout.block_tokens;
            let part = BlockPart { group_idx, n_tokens: (moved_at - start).min(layout.block_tokens) };
            let is_whole = part.n_tokens == layout.block_tokens;
            let to = there.take();
            // What the part does not have is what somebody else left, which need not be numbers.
            second.import_block(to, &vec![0xff; layout.block_bytes]).unwrap();
            if is_whole {
                let mut bytes = vec![0; layout.block_bytes];
                first.export_block(*block, &mut bytes).unwrap();
                second.import_block(to, &bytes).unwrap();
            } else {
                let mut bytes = vec![0; first.part_bytes(part)];
                assert!(bytes.len() <= part.n_tokens * token_bytes, "a part costs what its tokens take");
                first.export_part(*block, part, &mut bytes).unwrap();
                second.import_part(to, part, &bytes).unwrap();
                assert!(second.import_part(to, part, &bytes[1..]).is_err());
            }
            *block = to;
        }
    }
    for n in [1, 1, 1, 7, 20] {
        advance(&mut *second, &mut sequences, &[n], &mut there, &baselines);
    }
}

#[test]
fn blocks_that_were_exported_and_imported_give_the_same_bits_onwards() {
    for kv_dtype in [KvDtype::F16, KvDtype::Q8, KvDtype::Q4] {
        check_moved(SMOLLM2, "smollm2", kv_dtype, 140);
    }
    check_moved(GEMMA3, "gemma3", KvDtype::F16, 650);
}
