//! The address of one block.

use crate::chain_hash::ChainHash;

/// The content address of one block: which prefix, and which layer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// Chain hash up to and including the block's tokens.
    pub hash: ChainHash,
    /// Of which layers.
    pub group: GroupId,
}

/// A layer group of one model's KV layout, or a piece of the state that its recurrent layers have.
///
/// ```text
///  bit 15                      bit 14              bits 0 to 13
///  attends to a window only    piece of a state    index into the layout's groups, or the piece's number
/// ```
///
/// Of a group that attends to a window only, a restore reads the last blocks, of a state one, of the others all; whoever
/// lays blocks out on disk can tell them apart without the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(u16);

impl GroupId {
    /// Groups of a layout, and pieces of a state, at most.
    pub const MAX: usize = 1 << 14;
    const WINDOW: u16 = 1 << 15;
    const STATE: u16 = 1 << 14;

    /// The group at `idx` that sees every earlier position.
    ///
    /// # Panics
    /// `idx` is not below [`GroupId::MAX`], which no model's number of layers reaches.
    pub fn full(idx: usize) -> GroupId {
        assert!(idx < GroupId::MAX, "layer group {idx} of at most {}", GroupId::MAX);
        GroupId(idx as u16)
    }

    /// The group at `idx` that attends to a window only.
    ///
    /// # Panics
    /// As [`GroupId::full`].
    pub fn window(idx: usize) -> GroupId {
        GroupId(GroupId::full(idx).0 | GroupId::WINDOW)
    }

    /// The piece of this number of a state: what recurrent layers have after all tokens of a prefix.
    ///
    /// # Panics
    /// As [`GroupId::full`]; a layout has no more pieces.
    pub fn state(piece: usize) -> GroupId {
        GroupId(GroupId::full(piece).0 | GroupId::STATE)
    }

    /// The group with these bits; every number is one.
    pub fn from_bits(bits: u16) -> GroupId {
        GroupId(bits)
    }

    /// All of it in one number.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// Index into the layout's groups, or the piece's number.
    pub fn idx(self) -> usize {
        usize::from(self.0 & !(GroupId::WINDOW | GroupId::STATE))
    }

    /// Whether it is a piece of a state.
    pub fn is_state(self) -> bool {
        self.0 & GroupId::STATE != 0
    }

    /// Whether it attends to a window only.
    pub fn is_window(self) -> bool {
        self.0 & GroupId::WINDOW != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_keeps_its_index_and_its_kind_in_its_bits() {
        for idx in [0, 1, 77, GroupId::MAX - 1] {
            for (group, is_window, is_state) in [
                (GroupId::full(idx), false, false),
                (GroupId::window(idx), true, false),
                (GroupId::state(idx), false, true),
            ] {
                assert_eq!((group.idx(), group.is_window(), group.is_state()), (idx, is_window, is_state));
                assert_eq!(GroupId::from_bits(group.bits()), group);
            }
        }
        assert_eq!(GroupId::window(1).bits(), 0x8001, "what is on disk");
        assert_eq!(GroupId::state(1).bits(), 0x4001, "what is on disk");
    }

    #[test]
    #[should_panic(expected = "layer group 16384 of at most 16384")]
    fn an_index_beyond_its_bits_is_no_group() {
        GroupId::full(GroupId::MAX);
    }
}
