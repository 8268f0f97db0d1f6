//! What an answer must be, if not free text.

use serde_json::Value;

use crate::schema::Strictness;

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputFormat {
    /// Any JSON object.
    JsonObject,
    /// A JSON document that this schema allows.
    JsonSchema {
        /// The client's schema.
        schema: Value,
        /// What happens to keywords in it that cannot be held to.
        strictness: Strictness,
    },
}
