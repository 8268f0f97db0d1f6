//! The functions that a call lets the model call, and which of them it is to call.

use text::Tool;

/// What a call says of tools.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tools {
    /// The functions, in the client's order; no two have one name.
    pub(crate) offered: Vec<OfferedTool>,
    pub(crate) choice: ToolChoice,
    pub(crate) parallel: Parallel,
}

/// A function, and where the request has the schema of its arguments: a complaint about that names it, and a JSON
/// pointer goes on from there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OfferedTool {
    pub(crate) tool: Tool,
    pub(crate) place: String,
}

/// Which of the functions the model is to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// Whichever it likes, or none.
    Auto,
    /// None: the model is not shown any.
    None,
    /// Whichever it likes, but one at least.
    Required,
    /// This one.
    Named(String),
}

/// How many calls an answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parallel {
    /// As many as the model likes.
    Any,
    /// One at most.
    One,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools { offered: Vec::new(), choice: ToolChoice::Auto, parallel: Parallel::Any }
    }
}
