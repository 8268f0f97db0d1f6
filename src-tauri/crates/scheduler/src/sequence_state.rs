//! What a sequence has of the states of recurrent layers, and where they are worth keeping.

use std::collections::BTreeMap;

use crate::ids::BlockId;
use crate::plan::{CheckpointClass, StatePoints};

/// What a sequence has of states; nothing where its model has none.
#[derive(Debug, Clone, Default)]
pub(crate) struct SequenceState {
    /// Its own, after all its computed tokens.
    pub(crate) live: Option<BlockId>,
    /// The checkpoint that it starts from, held until it is copied.
    pub(crate) source: Option<BlockId>,
    /// The checkpoint at its return point, held while it runs.
    pub(crate) return_point: Option<BlockId>,
    /// What a restore brings, held until it is over.
    pub(crate) restoring: Option<BlockId>,
    /// Copies that the step under way makes.
    pub(crate) saves: Vec<PlannedSave>,
    /// Whether the step under way goes on with it.
    pub(crate) is_in_step: bool,
    /// Where it is worth keeping, in whole blocks, ascending.
    pub(crate) places: Vec<(usize, CheckpointClass)>,
    /// The one of these for which room is set aside.
    pub(crate) reserved: Option<usize>,
}

/// A copy of a state that a step makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlannedSave {
    /// Leading tokens of the sequence that it is the state of.
    pub(crate) n_tokens: usize,
    pub(crate) class: CheckpointClass,
    pub(crate) block: BlockId,
}

impl SequenceState {
    /// Of a prompt of `n_prompt` tokens whose state is kept at `points`, and in a long one at each `every`th token too.
    pub(crate) fn new(
        points: StatePoints,
        n_prompt: usize,
        block_tokens: usize,
        every: usize,
    ) -> SequenceState {
        let mut places: BTreeMap<usize, CheckpointClass> = BTreeMap::new();
        let periodic = (1..).map(|i| i * every).take_while(|&at| every > 0 && at < n_prompt);
        let named = [
            (points.system_end, CheckpointClass::SystemEnd),
            (points.return_point, CheckpointClass::ReturnPoint),
            (points.generation_start, CheckpointClass::GenerationStart),
        ];
        let named = named.into_iter().filter_map(|(at, class)| Some((at?.min(n_prompt), class)));
        for (at, class) in periodic.map(|at| (at, CheckpointClass::Periodic)).chain(named) {
            let at = at - at % block_tokens;
            let place = places.entry(at).or_insert(class);
            *place = class.max(*place);
        }
        places.remove(&0);
        let of = |class| places.iter().rev().find(|(_, other)| **other == class).map(|(at, _)| *at);
        let in_order = [
            CheckpointClass::ReturnPoint,
            CheckpointClass::SystemEnd,
            CheckpointClass::GenerationStart,
            CheckpointClass::Periodic,
        ];
        let reserved = in_order.into_iter().find_map(of);
        SequenceState { places: places.into_iter().collect(), reserved, ..SequenceState::default() }
    }

    /// Every state that it holds, each by its first block.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockId> {
        let saves = self.saves.iter().map(|save| save.block);
        [self.live, self.source, self.return_point, self.restoring].into_iter().flatten().chain(saves)
    }
}
