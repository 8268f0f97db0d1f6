//! How deep a reader is in a schema.

/// How deep a schema lies.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Depth {
    /// In schemas.
    pub(super) schemas: usize,
    /// In lists and objects of the answer.
    pub(super) nesting: usize,
}

impl Depth {
    /// Of a schema for the same value.
    pub(super) fn beside(self) -> Depth {
        Depth { schemas: self.schemas + 1, ..self }
    }

    /// Of a schema for a value within.
    pub(super) fn within(self) -> Depth {
        Depth { schemas: self.schemas + 1, nesting: self.nesting + 1 }
    }
}
