//! What a reader of calls finds.

use crate::Tool;

/// A step of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// A call begins, of a function that is one of the tools.
    Name(String),
    /// More of its arguments, as JSON.
    Arguments(String),
    /// It is complete.
    End,
}

/// How far a reader has come in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes are done, and with them one call of several.
    Took(usize),
    /// So many bytes are done, and no more can be until more of the text is there.
    Wait(usize),
    /// So many bytes are done, and with them all of the calls.
    Done(usize),
    /// What comes after so many bytes is no call of the form.
    Refuse(usize),
}

/// Bytes of a name, and of what stands around it.
pub(crate) const MAX_NAME_BYTES: usize = 512;

/// Whether a function of that name was offered.
pub(crate) fn is_offered(tools: &[Tool], name: &str) -> bool {
    tools.iter().any(|tool| tool.name == name)
}

/// Append arguments to those before them.
pub(crate) fn say(said: &mut Vec<Said>, more: &str) {
    match said.last_mut() {
        _ if more.is_empty() => {}
        Some(Said::Arguments(before)) => before.push_str(more),
        _ => said.push(Said::Arguments(more.to_owned())),
    }
}

/// Append text as the inside of a JSON string.
pub(crate) fn say_escaped(said: &mut Vec<Said>, text: &str) {
    if text.is_empty() {
        return;
    }
    let quoted = serde_json::Value::from(text).to_string();
    say(said, &quoted[1..quoted.len() - 1]);
}
