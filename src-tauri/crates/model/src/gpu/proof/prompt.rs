//! What a device proves itself on: the same steps for every model, as far as its pool has room for them.
//!
//! ```text
//! A   a prompt from position 0 in two chunks across a block's edge, then decodes
//! B   a prompt beyond the widest window, whose history is A's first block over and over; from step 1 on
//! C   A's blocks, moved and copied, and another continuation; from step 2 on, so that decodes of like length join
//! ```

use scheduler::{
    AttentionSpan, BlockCopy, BlockId, BlockTable, KvLayout, ModelCacheSpec, Row, RowInput, RowState,
};
use scheduler::{SeqId, Step, TokenId, Wanted};

/// Tokens of A in each step.
const OF_A: [usize; 5] = [40, 16, 1, 1, 1];

/// Tokens of B in each step.
const OF_B: [usize; 5] = [0, 24, 1, 1, 0];

/// Tokens of C in each step.
const OF_C: [usize; 5] = [0, 0, 3, 1, 1];

/// Where B begins in a model without windows, about.
const FAR: usize = 1024;

/// Where B begins at most: a device gathers everything before it.
const MAX_FAR: usize = 4096;

/// How far before the edge of a block B begins.
const BEFORE_EDGE: usize = 8;

/// Steps on the first blocks of a pool, which are all zeros before.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    pub(super) steps: Vec<ProofStep>,
    /// Blocks that they use.
    pub(super) n_blocks: usize,
}

/// A step, and what comes before it.
#[derive(Debug, Default)]
pub(super) struct ProofStep {
    /// Blocks whose bytes are taken out of the pool and put into another block.
    pub(super) moves: Vec<BlockCopy>,
    pub(super) step: Step,
}

/// A sequence being written.
struct Sequence {
    id: u64,
    n_done: usize,
    tables: Vec<BlockTable>,
}

/// Gives out the blocks of a pool in their order.
struct Blocks {
    next: usize,
    n_blocks: usize,
}

impl Prompt {
    /// The steps for a model of `spec` in a pool of `n_blocks`; a small pool shortens A and leaves out B or C.
    pub(super) fn new(spec: &ModelCacheSpec, layout: &KvLayout, n_blocks: usize) -> Prompt {
        let (n_groups, block_tokens) = (layout.groups.len(), layout.block_tokens);
        let mut blocks = Blocks { next: 0, n_blocks };
        let room = (n_blocks / n_groups * block_tokens).min(spec.max_context);
        let sizes_of_a = fitted(&OF_A, room);
        let Some(tables) = blocks.tables(n_groups, sizes_of_a.iter().sum::<usize>().div_ceil(block_tokens))
        else {
            return Prompt::default();
        };
        let mut a = Sequence { id: 0, n_done: 0, tables };
        let is_whole = sizes_of_a == OF_A;
        let mut b = is_whole.then(|| Far::new(spec, layout, &mut blocks)).flatten();
        let before_c: usize = OF_A.iter().zip(OF_C).take_while(|(_, of_c)| *of_c == 0).map(|(n, _)| n).sum();
        let n_of_c = before_c + OF_C.iter().sum::<usize>();
        let has_room = is_whole && n_of_c <= spec.max_context;
        let tables = has_room.then(|| blocks.tables(n_groups, n_of_c.div_ceil(block_tokens))).flatten();
        let mut c = tables.map(|tables| Sequence { id: 2, n_done: before_c, tables });

        let mut steps = Vec::new();
        for (idx, n) in sizes_of_a.into_iter().enumerate() {
            let mut step = ProofStep::default();
            if let Some(far) = b.as_ref().filter(|_| idx == 1) {
                step.step.copies = far.copies(&a);
            }
            if let Some(c) = c.as_ref().filter(|c| OF_C[idx] > 0 && c.n_done == before_c) {
                (step.moves, step.step.copies) = c.taken_from(&a, block_tokens);
            }
            // Whatever a row can want is wanted of one.
            let wanted = if idx == 1 { Wanted::LastHidden } else { Wanted::LastLogits };
            step.step.rows.push(a.row(n, spec, wanted));
            if let Some(far) = b.as_mut().filter(|_| OF_B[idx] > 0) {
                step.step.rows.push(far.sequence.row(OF_B[idx], spec, Wanted::LastLogits));
            }
            if let Some(c) = c.as_mut().filter(|_| OF_C[idx] > 0) {
                step.step.rows.push(c.row(OF_C[idx], spec, Wanted::AllLogits));
            }
            steps.push(step);
        }
        Prompt { steps, n_blocks: blocks.next }
    }
}

/// The leading `sizes` that fit `room`, the last of them cut short if need be.
fn fitted(sizes: &[usize], mut room: usize) -> Vec<usize> {
    let cut = sizes.iter().map(|&n| {
        let n = n.min(room);
        room -= n;
        n
    });
    cut.filter(|&n| n > 0).collect()
}

/// A sequence that begins far behind what it has computed.
struct Far {
    sequence: Sequence,
    /// For each group the block that its history is.
    history: Vec<BlockId>,
}

impl Far {
    fn new(spec: &ModelCacheSpec, layout: &KvLayout, blocks: &mut Blocks) -> Option<Far> {
        let block_tokens = layout.block_tokens;
        let n_tokens: usize = OF_B.iter().sum();
        let windows = layout.groups.iter().filter_map(|group| match group.span {
            AttentionSpan::Window { tokens } => Some(tokens),
            AttentionSpan::Full => None,
        });
        // A window that is wider than this never closes on the way here.
        let widest = windows.filter(|window| *window < MAX_FAR).max().unwrap_or(0);
        let wanted = FAR.max(widest + block_tokens).min(MAX_FAR + block_tokens);
        let last_edge = spec.max_context.checked_sub(n_tokens)? / block_tokens;
        let edge = wanted.div_ceil(block_tokens).min(last_edge);
        let start = (edge * block_tokens).checked_sub(BEFORE_EDGE).filter(|_| edge > 1)?;
        let n_own = (start + n_tokens).div_ceil(block_tokens) - (edge - 1);
        let before = blocks.next;
        let found = blocks.tables(layout.groups.len(), 1).zip(blocks.tables(layout.groups.len(), n_own));
        let Some((history, own)) = found else {
            blocks.next = before;
            return None;
        };
        let history: Vec<BlockId> = history.into_iter().map(|table| table.blocks[0]).collect();
        let whole = |(own, &block): (BlockTable, &BlockId)| {
            let blocks = std::iter::repeat_n(block, edge - 1).chain(own.blocks).collect();
            BlockTable { first_block: 0, blocks }
        };
        let tables = own.into_iter().zip(&history).map(whole).collect();
        Some(Far { sequence: Sequence { id: 1, n_done: start, tables }, history })
    }

    /// What makes `a`'s first block its history, that in its own first block included.
    fn copies(&self, a: &Sequence) -> Vec<BlockCopy> {
        let mut copies = Vec::new();
        for (of_a, (own, history)) in a.tables.iter().zip(self.sequence.tables.iter().zip(&self.history)) {
            let first_own = own.blocks.iter().find(|block| *block != history);
            let to = [history].into_iter().chain(first_own);
            copies.extend(to.map(|&to| BlockCopy { from: of_a.blocks[0], to }));
        }
        copies
    }
}

impl Sequence {
    /// Its next `n` tokens.
    fn row(&mut self, n: usize, spec: &ModelCacheSpec, wanted: Wanted) -> Row {
        let end = self.n_done + n;
        let start = std::mem::replace(&mut self.n_done, end);
        let token = |position: usize| {
            let position = position as u64;
            let mixed = position * position * 7_919 + position * 104_729 + self.id * 15_485_863 + 17;
            (mixed % spec.n_vocab as u64) as TokenId
        };
        let input = RowInput::Tokens((start..end).map(token).collect());
        Row {
            seq: SeqId(self.id),
            input,
            start,
            tables: self.tables.clone(),
            state: RowState::default(),
            wanted,
        }
    }

    /// What puts `a`'s blocks into its own: the first one of each group by a move, others by copies.
    fn taken_from(&self, a: &Sequence, block_tokens: usize) -> (Vec<BlockCopy>, Vec<BlockCopy>) {
        let n_taken = self.n_done.div_ceil(block_tokens);
        let (mut moves, mut copies) = (Vec::new(), Vec::new());
        for (from, to) in a.tables.iter().zip(&self.tables) {
            let pairs = from.blocks.iter().zip(&to.blocks).take(n_taken);
            let mut pairs = pairs.map(|(&from, &to)| BlockCopy { from, to });
            moves.extend(pairs.next());
            copies.extend(pairs);
        }
        (moves, copies)
    }
}

impl Blocks {
    /// Tables of `n` blocks for each group, if there are as many.
    fn tables(&mut self, n_groups: usize, n: usize) -> Option<Vec<BlockTable>> {
        let first = self.next;
        let end = first.checked_add(n.checked_mul(n_groups)?).filter(|end| *end <= self.n_blocks)?;
        self.next = end;
        let table = |group: usize| {
            let blocks = (first + group * n..first + (group + 1) * n).map(|idx| BlockId(idx as u32));
            BlockTable { first_block: 0, blocks: blocks.collect() }
        };
        Some((0..n_groups).map(table).collect())
    }
}

#[cfg(test)]
mod tests {
    use scheduler::{KvDtype, LayerCache, LayerKv, ValuePlace};

    use super::*;

    /// A model of one layer with each of the `windows`, and one that sees everything.
    fn spec(windows: &[usize], max_context: usize) -> ModelCacheSpec {
        let windows = windows.iter().map(|&tokens| AttentionSpan::Window { tokens });
        let layer = |span| {
            let v_place = ValuePlace::BesideKeys;
            LayerKv::Own(LayerCache { n_kv_heads: 1, k_dim: 32, v_dim: 32, v_place, span })
        };
        let layers = windows.chain([AttentionSpan::Full]).map(layer).collect();
        ModelCacheSpec { layers, max_context, n_vocab: 40 }
    }

    /// Rows of each step as `sequence@start+tokens`.
    fn check((windows, max_context): (&[usize], usize), block_tokens: usize, n_blocks: usize, want: &[&str]) {
        let spec = spec(windows, max_context);
        let layout = KvLayout::new(&spec, block_tokens, KvDtype::F16).unwrap();
        let prompt = Prompt::new(&spec, &layout, n_blocks);
        assert!(prompt.n_blocks <= n_blocks);
        let mut got = Vec::new();
        for ProofStep { moves, step } in &prompt.steps {
            crate::run::batch::check(step, &spec, &layout, prompt.n_blocks).unwrap();
            assert!(moves.iter().flat_map(|at| [at.from, at.to]).all(|block| block.idx() < prompt.n_blocks));
            let name =
                |row: &Row| format!("{}@{}+{}", ["a", "b", "c"][row.seq.0 as usize], row.start, row.len());
            got.push(step.rows.iter().map(name).collect::<Vec<_>>().join(" "));
        }
        assert_eq!(got, want);
    }

    #[test]
    fn the_prompt_crosses_blocks_and_windows_and_ends_with_decodes_side_by_side() {
        let whole = |b: usize| {
            let b = |n_before: usize, n: usize| format!("b@{}+{n}", b + n_before);
            [
                "a@0+40".to_owned(),
                format!("a@40+16 {}", b(0, 24)),
                format!("a@56+1 {} c@56+3", b(24, 1)),
                format!("a@57+1 {} c@59+1", b(25, 1)),
                "a@58+1 c@60+1".to_owned(),
            ]
        };
        let check = |model, block_tokens, b| {
            check(model, block_tokens, 100, &whole(b).each_ref().map(String::as_str));
        };
        check((&[], 8192), 32, 1016);
        check((&[], 8192), 256, 1016);
        check((&[512, 1500], 8192), 32, 1528);
        check((&[512], 600), 16, 552);
        check((&[100_000], 200_000), 32, 1016);
    }

    #[test]
    fn a_small_pool_or_context_shortens_it_and_the_smallest_has_one_block() {
        let no_far = ["a@0+40", "a@40+16", "a@56+1 c@56+3", "a@57+1 c@59+1", "a@58+1 c@60+1"];
        check((&[], 61), 32, 100, &no_far);
        check((&[], 8192), 32, 4, &no_far);
        check((&[], 8192), 32, 2, &["a@0+40", "a@40+16", "a@56+1", "a@57+1", "a@58+1"]);
        check((&[], 8192), 32, 1, &["a@0+32"]);
        check((&[64], 8192), 16, 2, &["a@0+16"]);
        check((&[64], 8192), 16, 1, &[]);
    }
}
