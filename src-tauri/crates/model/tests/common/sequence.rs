//! A sequence of a test: its tokens, how far it is computed, and the blocks that it was given.

use scheduler::{AttentionSpan, BlockId, BlockTable, KvLayout, Row, RowInput, RowState, SeqId, Wanted};

/// Hands out the blocks of a pool in a random order.
pub struct Blocks {
    free: Vec<BlockId>,
}

/// A generator of numbers, always the same ones.
pub struct Random(pub u64);

/// A sequence under way.
pub struct Sequence {
    pub id: SeqId,
    pub tokens: Vec<u32>,
    pub n_done: usize,
    pub tables: Vec<BlockTable>,
    /// The blocks of its state, once it has begun.
    pub state: Vec<BlockId>,
}

impl Random {
    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

impl Blocks {
    pub fn in_order(n_blocks: usize) -> Blocks {
        Blocks { free: (0..n_blocks as u32).rev().map(BlockId).collect() }
    }

    pub fn shuffled(n_blocks: usize, random: &mut Random) -> Blocks {
        let Blocks { mut free } = Blocks::in_order(n_blocks);
        for i in (1..free.len()).rev() {
            free.swap(i, random.below(i + 1));
        }
        Blocks { free }
    }

    pub fn take(&mut self) -> BlockId {
        self.free.pop().expect("the test's pool is large enough")
    }

    pub fn give_back(&mut self, block: BlockId) {
        self.free.insert(0, block);
    }
}

impl Sequence {
    pub fn new(id: u64, tokens: &[u32], layout: &KvLayout) -> Sequence {
        Sequence {
            id: SeqId(id),
            tokens: tokens.to_vec(),
            n_done: 0,
            tables: vec![BlockTable::default(); layout.groups.len()],
            state: Vec::new(),
        }
    }

    pub fn n_left(&self) -> usize {
        self.tokens.len() - self.n_done
    }

    /// A row of the next `n_tokens`, with blocks for them.
    pub fn next_row(
        &mut self,
        n_tokens: usize,
        layout: &KvLayout,
        blocks: &mut Blocks,
        wanted: Wanted,
    ) -> Row {
        let end = self.n_done + n_tokens;
        for table in &mut self.tables {
            while table.first_block + table.blocks.len() < end.div_ceil(layout.block_tokens) {
                table.blocks.push(blocks.take());
            }
        }
        while self.state.len() < layout.state.n_pieces {
            self.state.push(blocks.take());
        }
        let tokens = self.tokens[self.n_done..end].to_vec();
        let start = std::mem::replace(&mut self.n_done, end);
        Row {
            seq: self.id,
            input: RowInput::Tokens(tokens),
            start,
            tables: self.tables.clone(),
            state: RowState { blocks: self.state.clone(), saves: Vec::new() },
            wanted,
        }
    }

    /// Give back the blocks that no later token sees.
    pub fn close_windows(&mut self, layout: &KvLayout, blocks: &mut Blocks) {
        for (table, group) in self.tables.iter_mut().zip(&layout.groups) {
            let AttentionSpan::Window { tokens } = group.span else { continue };
            let first_seen = (self.n_done + 1).saturating_sub(tokens);
            while table.first_block < first_seen / layout.block_tokens {
                blocks.give_back(table.blocks.remove(0));
                table.first_block += 1;
            }
        }
    }
}
