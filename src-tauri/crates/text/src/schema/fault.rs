//! Why a schema cannot be used, and where in it.

/// What is wrong with a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFault {
    /// Where: a JSON pointer as the fragment of a URI, `#/properties/a`; `#` is the schema itself.
    pub pointer: String,
    /// What: lower case, without a full stop.
    pub message: String,
}

impl std::fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (at {})", self.message, self.pointer)
    }
}
