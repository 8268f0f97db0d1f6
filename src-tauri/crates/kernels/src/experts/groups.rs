//! The tokens of a step grouped by the experts that they go through.

use std::ops::Range;

use super::routing::Routes;
use crate::activations::{Activations, Rounding};

/// The memory of a layer of experts, kept from one step to the next.
pub struct ExpertBuffers {
    pub(super) groups: Groups,
    /// A row for each slot, as the last product takes it.
    pub(super) hidden: Activations,
}

impl ExpertBuffers {
    /// Empty; what goes between products is rounded as `rounding` says.
    pub fn new(rounding: Rounding) -> ExpertBuffers {
        ExpertBuffers { groups: Groups::default(), hidden: Activations::new(rounding) }
    }
}

/// Slots, one for each token and expert of it, those of an expert next to each other.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) all: Vec<Group>,
    /// The token of each slot; within an expert in ascending order.
    pub(super) tokens: Vec<u32>,
    /// The slot of each token and rank, `[n_tokens, n_used]`.
    pub(super) slots: Vec<u32>,
    /// Where an expert's next slot is, while slots are given out.
    next: Vec<u32>,
}

/// The slots of an expert.
pub(super) struct Group {
    pub(super) expert: usize,
    pub(super) slots: Range<usize>,
}

impl Groups {
    /// Groups the tokens of `routes` by the first `n_experts` experts, which are all.
    ///
    /// # Panics
    /// When a token goes through another expert.
    pub(super) fn fill(&mut self, routes: &Routes, n_experts: usize) {
        let experts = routes.experts();
        self.next.clear();
        self.next.resize(n_experts, 0);
        for &expert in experts {
            self.next[expert as usize] += 1;
        }
        self.all.clear();
        let mut first = 0;
        for (expert, next) in self.next.iter_mut().enumerate() {
            let n = std::mem::replace(next, first);
            if n > 0 {
                let slots = first as usize..(first + n) as usize;
                self.all.push(Group { expert, slots });
                first += n;
            }
        }
        self.tokens.resize(experts.len(), 0);
        self.slots.resize(experts.len(), 0);
        for (i, (&expert, slot_of)) in experts.iter().zip(&mut self.slots).enumerate() {
            let slot = self.next[expert as usize];
            self.next[expert as usize] += 1;
            *slot_of = slot;
            self.tokens[slot as usize] = (i / routes.n_used()) as u32;
        }
    }

    pub(super) fn n_slots(&self) -> usize {
        self.tokens.len()
    }
}
