//! The functions that a call lets the model call, and which of them it is to call.

use std::collections::HashSet;

use text::Tool;

use super::fault::{Fault, shorten};

/// Functions that a call may offer.
const MAX_TOOLS: usize = 1024;
/// Bytes of a function's name.
const MAX_NAME_BYTES: usize = 256;

/// What a call says of tools.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tools {
    /// The functions, in the client's order; no two have one name.
    pub(crate) offered: Vec<OfferedTool>,
    pub(crate) choice: ToolChoice,
    /// What the client says of several calls; [`Tools::parallel`] is what counts.
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

impl Tools {
    /// That they can be offered, and the choice made, as far as that is known without a model. The API calls the
    /// functions `tools` and the choice of one `tool_choice`.
    ///
    /// # Errors
    /// There are too many, a name is none or is given twice, or the choice is of one that is not there.
    pub(crate) fn check(&self, tools: &'static str, tool_choice: &'static str) -> Result<(), Fault> {
        if self.offered.len() > MAX_TOOLS {
            let message = format!("{} tools where {MAX_TOOLS} are the most", self.offered.len());
            return Err(Fault::invalid(tools, message));
        }
        let mut seen = HashSet::new();
        for OfferedTool { tool, .. } in &self.offered {
            if !is_name(&tool.name) {
                let message = format!(
                    "'{}' is no name of a function: 1 to {MAX_NAME_BYTES} letters, digits and signs that no model's \
                     form has a meaning for",
                    shorten(&tool.name)
                );
                return Err(Fault::invalid(tools, message));
            }
            if !seen.insert(tool.name.as_str()) {
                return Err(Fault::invalid(tools, format!("two tools are called '{}'", shorten(&tool.name))));
            }
        }
        match &self.choice {
            ToolChoice::Required if self.offered.is_empty() => {
                Err(Fault::invalid(tool_choice, "there are no tools to choose from"))
            }
            ToolChoice::Named(name) if !seen.contains(name.as_str()) => {
                let message = format!("there is no tool '{}'", shorten(name));
                Err(Fault::invalid(tool_choice, message))
            }
            _ => Ok(()),
        }
    }

    /// How many calls an answer may have: who names a function wants one call of it.
    pub(crate) fn parallel(&self) -> Parallel {
        if matches!(self.choice, ToolChoice::Named(_)) { Parallel::One } else { self.parallel }
    }

    /// Those that an answer may call.
    pub(crate) fn callable(&self) -> impl Iterator<Item = &OfferedTool> {
        self.offered.iter().filter(|offered| match &self.choice {
            ToolChoice::None => false,
            ToolChoice::Named(name) => offered.tool.name == *name,
            ToolChoice::Auto | ToolChoice::Required => true,
        })
    }
}

/// Whether a function may be called so: forms that models write calls in end a name with other signs.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '$' | '@' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], choice: ToolChoice) -> Option<String> {
        let offered = names.iter().map(|name| OfferedTool {
            tool: Tool { name: (*name).to_owned(), ..Tool::default() },
            place: String::new(),
        });
        let tools = Tools { offered: offered.collect(), choice, parallel: Parallel::Any };
        tools.check("tools", "tool_choice").err().and_then(|fault| fault.place)
    }

    #[test]
    fn who_names_a_function_wants_one_call_of_it() {
        for (choice, parallel) in [
            (ToolChoice::Auto, Parallel::Any),
            (ToolChoice::Required, Parallel::Any),
            (ToolChoice::Named("a".into()), Parallel::One),
        ] {
            let tools = Tools { choice, ..Tools::default() };
            assert_eq!(tools.parallel(), parallel, "{tools:?}");
            assert_eq!(Tools { parallel: Parallel::One, ..tools }.parallel(), Parallel::One);
        }
    }

    #[test]
    fn what_cannot_be_offered_or_chosen_is_refused_where_it_is_said() {
        let tools = Some("tools".to_owned());
        let choice = Some("tool_choice".to_owned());
        assert_eq!(check(&["a", "mcp__x__get-1.2", "é"], ToolChoice::Auto), None);
        assert_eq!(check(&["a", "b", "a"], ToolChoice::Auto), tools);
        for bad in ["", "a b", "a(b", "<x>", "a\"", &"x".repeat(257)] {
            assert_eq!(check(&[bad], ToolChoice::Auto), tools, "{bad}");
        }
        assert_eq!(check(&[], ToolChoice::Required), choice);
        assert_eq!(check(&["a"], ToolChoice::Named("b".into())), choice);
        assert_eq!(check(&["a"], ToolChoice::Named("a".into())), None);
        assert_eq!(check(&[], ToolChoice::None), None);
    }
}
