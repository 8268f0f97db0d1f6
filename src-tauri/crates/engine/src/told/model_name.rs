//! What a model is called, before it is loaded and after.

use std::fmt;
use std::sync::Arc;

/// A model's name: what its loader finds it by, and its id in `/v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(pub Arc<str>);

impl From<&str> for ModelName {
    fn from(name: &str) -> ModelName {
        ModelName(name.into())
    }
}

impl From<String> for ModelName {
    fn from(name: String) -> ModelName {
        ModelName(name.into())
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
