//! The numerics rule: a token's logits depend on its sequence and position only, bit for bit.
//!
//! The baseline is each sequence alone, in one step. Against it: random blocks, random chunk edges, sequences at
//! different positions in the same steps, windows that close, and blocks that went out of the pool and came back
//! elsewhere.

use scheduler::{BlockCopy, BlockId, BlockPart, ModelRunner, Row, StateSave, Step, StepOutput, Wanted};

use super::sequence::{Blocks, Random, Sequence};

/// A sequence and the hash of each of its positions' logits.
pub struct Baseline {
    pub tokens: Vec<u32>,
    hashes: Vec<u64>,
}

/// Each text alone, in one step.
pub fn baselines(runner: &mut dyn ModelRunner, texts: &[Vec<u32>]) -> Vec<Baseline> {
    let layout = runner.layout().clone();
    let alone = |tokens: &Vec<u32>| {
        let mut blocks = Blocks::in_order(runner.n_blocks());
        let mut sequence = Sequence::new(1, tokens, &layout);
        let row = sequence.next_row(tokens.len(), &layout, &mut blocks, Wanted::AllLogits);
        let mut out = StepOutput::default();
        runner.run(&Step { copies: vec![], rows: vec![row] }, &mut out).unwrap();
        let hashes = (0..tokens.len()).map(|i| hash(out.logits.row(i))).collect();
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
        let wanted = if n <= 3 { Wanted::AllLogits } else { Wanted::LastLogits };
        step.rows.push(sequence.next_row(n, &layout, blocks, wanted));
    }
    run(runner, &step, |seq| &baselines[seq as usize]);
    sequences.iter_mut().for_each(|sequence| sequence.close_windows(&layout, blocks));
}

/// Run a step, and hold its logits against those of each sequence's baseline.
fn run<'a>(runner: &mut dyn ModelRunner, step: &Step, baseline_of: impl Fn(u64) -> &'a Baseline) {
    let mut out = StepOutput::default();
    runner.run(step, &mut out).unwrap();
    assert!(out.logits.n_rows() >= step.rows.len());
    for (i, &(row, token)) in out.logits.origin.iter().enumerate() {
        let Step { rows, .. } = step;
        let (seq, position) = (rows[row].seq.0, rows[row].start + token);
        let want = baseline_of(seq).hashes[position];
        let pieces: Vec<usize> = rows.iter().map(Row::len).collect();
        assert_eq!(hash(out.logits.row(i)), want, "sequence {seq} at {position}, rows {pieces:?}");
    }
}

/// Holds that sequences side by side, in pieces of `sizes` and in blocks anywhere, have the bits of each alone.
pub fn check_pieces(
    runner: &mut dyn ModelRunner,
    baselines: &[Baseline],
    sizes: &[usize],
    random: &mut Random,
) {
    let layout = runner.layout().clone();
    let mut blocks = Blocks::shuffled(runner.n_blocks(), random);
    let mut sequences: Vec<Sequence> =
        (0..).zip(baselines).map(|(id, text)| Sequence::new(id, &text.tokens, &layout)).collect();
    while sequences.iter().any(|sequence| sequence.n_left() > 0) {
        let piece = |sequence: &Sequence| sizes[random.below(sizes.len())].min(sequence.n_left());
        let pieces: Vec<usize> = sequences.iter().map(piece).collect();
        if pieces.iter().any(|&n| n > 0) {
            advance(runner, &mut sequences, &pieces, &mut blocks, baselines);
        }
    }
    let has_windows = layout.groups.iter().any(|group| group.span != scheduler::AttentionSpan::Full);
    let has_closed = sequences[0].tables.iter().any(|table| table.first_block > 0);
    assert_eq!(has_closed, has_windows, "a window of the first sequence closes");
}

/// Holds that a sequence goes on in another pool, in other blocks, with the same bits, after its block and parts of
/// blocks have been moved there. `baseline` is `first`'s.
pub fn check_moved(
    first: &mut dyn ModelRunner,
    second: &mut dyn ModelRunner,
    baseline: Baseline,
    n_after: usize,
) {
    let layout = first.layout().clone();
    let mut random = Random(3);
    let (mut here, mut there) =
        (Blocks::shuffled(first.n_blocks(), &mut random), Blocks::shuffled(second.n_blocks(), &mut random));
    let mut sequences = [Sequence::new(0, &baseline.tokens, &layout)];
    let (moved_at, baselines) = (baseline.tokens.len() - n_after, [baseline]);
    advance(first, &mut sequences, &[moved_at], &mut here, &baselines);

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
    for block in &mut sequences[0].state {
        let (to, mut bytes) = (there.take(), vec![0; layout.block_bytes]);
        first.export_block(*block, &mut bytes).unwrap();
        second.import_block(to, &bytes).unwrap();
        *block = to;
    }
    let mut n = 1;
    while sequences[0].n_left() > 0 {
        let pieces = [n.min(sequences[0].n_left())];
        advance(second, &mut sequences, &pieces, &mut there, &baselines);
        n = if n == 1 { 7 } else { 1 };
    }
}

/// Holds that states which were saved at any tokens of a sequence, beside another one, go on with its bits in other
/// blocks: all of them together, each from its own token.
pub fn check_saved(
    runner: &mut dyn ModelRunner,
    baselines: &[Baseline; 2],
    sizes: &[usize],
    random: &mut Random,
) {
    let layout = runner.layout().clone();
    let mut blocks = Blocks::shuffled(runner.n_blocks(), random);
    // What was in a state's blocks before is nobody's, and need not be numbers.
    let nobodys = vec![0xff; layout.block_bytes];
    (0..runner.n_blocks()).for_each(|i| runner.import_block(BlockId(i as u32), &nobodys).unwrap());
    let mut sequences: Vec<Sequence> =
        (0..).zip(baselines).map(|(id, text)| Sequence::new(id, &text.tokens, &layout)).collect();
    let mut saved: Vec<(usize, Vec<BlockId>)> = Vec::new();
    while sequences.iter().any(|sequence| sequence.n_left() > 0) {
        let mut step = Step::default();
        for (idx, sequence) in sequences.iter_mut().enumerate() {
            let n = sizes[random.below(sizes.len())].min(sequence.n_left());
            if n == 0 {
                continue;
            }
            let mut row = sequence.next_row(n, &layout, &mut blocks, Wanted::AllLogits);
            for n_tokens in (1..=n).filter(|_| idx == 0 && random.below(5) == 0) {
                let blocks: Vec<BlockId> = (0..layout.state.n_pieces).map(|_| blocks.take()).collect();
                saved.push((row.start + n_tokens, blocks.clone()));
                row.state.saves.push(StateSave { n_tokens, blocks });
            }
            step.rows.push(row);
        }
        if !step.rows.is_empty() {
            run(runner, &step, |seq| &baselines[seq as usize]);
        }
    }
    saved.retain(|(n_tokens, _)| *n_tokens < baselines[0].tokens.len());
    assert!(saved.len() > 5, "states were saved");

    let tables = sequences[0].tables.clone();
    let mut step = Step::default();
    let mut continued: Vec<Sequence> = Vec::new();
    for (id, (n_done, from)) in (100..).zip(&saved) {
        let mut sequence = Sequence::new(id, &baselines[0].tokens, &layout);
        (sequence.n_done, sequence.tables) = (*n_done, tables.clone());
        sequence.state = from.iter().map(|_| blocks.take()).collect();
        let copies = from.iter().zip(&sequence.state).map(|(&from, &to)| BlockCopy { from, to });
        step.copies.extend(copies);
        continued.push(sequence);
    }
    while continued.iter().any(|sequence| sequence.n_left() > 0) {
        for sequence in &mut continued {
            let n = sizes[random.below(sizes.len())].min(sequence.n_left());
            if n > 0 {
                step.rows.push(sequence.next_row(n, &layout, &mut blocks, Wanted::AllLogits));
            }
        }
        if !step.rows.is_empty() {
            run(runner, &step, |_| &baselines[0]);
            step = Step::default();
        }
    }
}
