//! Calls of functions as OpenAI's API writes them, in answers and in messages that come back.

use serde::Serialize;
use serde_json::value::RawValue;
use text::ToolCall;
use utoipa::ToSchema;

use crate::calls::answer::CallPart;
use crate::calls::fault::{Fault, shorten};
use crate::dialects::fields::{Fields, RawList};

/// A call of a function.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Call {
    id: String,
    /// `function`
    r#type: &'static str,
    function: Function,
}

/// The function that is called.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Function {
    name: String,
    /// JSON, as the model wrote it.
    arguments: String,
}

/// What a chunk adds to a call.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallDelta {
    /// Which of the answer's calls.
    index: usize,
    /// In the call's first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// `function`, in the call's first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: FunctionDelta,
}

/// What a chunk adds to the function that is called.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FunctionDelta {
    /// In the call's first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

const FUNCTION: &str = "function";

impl From<CallPart> for Call {
    fn from(call: CallPart) -> Call {
        Call { id: id(&call), r#type: FUNCTION, function: Function::from(call) }
    }
}

impl From<CallPart> for Function {
    fn from(call: CallPart) -> Function {
        Function { name: call.name, arguments: call.arguments }
    }
}

impl CallDelta {
    /// More of a call, which begins with that or not.
    pub(crate) fn new(call: &CallPart, begins: bool) -> CallDelta {
        CallDelta {
            index: call.index,
            id: begins.then(|| id(call)),
            r#type: begins.then_some(FUNCTION),
            function: FunctionDelta::new(call, begins),
        }
    }
}

impl FunctionDelta {
    /// More of a call, which begins with that or not.
    pub(crate) fn new(call: &CallPart, begins: bool) -> FunctionDelta {
        FunctionDelta { name: begins.then(|| call.name.clone()), arguments: call.arguments.clone() }
    }
}

fn id(call: &CallPart) -> String {
    format!("call_{}", call.id)
}

/// Take the calls out of a message that comes back: `tool_calls`, or the older `function_call`.
///
/// # Errors
/// They have not the API's form.
pub(crate) fn take_calls(fields: &mut Fields<'_>) -> Result<Vec<ToolCall>, Fault> {
    let path = fields.path("tool_calls");
    let mut calls = match fields.take_large::<&RawValue>("tool_calls")? {
        None => Vec::new(),
        Some(list) => {
            let Ok(RawList(calls)) = serde_json::from_str::<RawList<'_>>(list.get()) else {
                return Err(Fault::invalid(path, "expected a list of calls"));
            };
            let calls = calls.iter().enumerate().map(|(i, value)| call(&format!("{path}[{i}]"), value));
            calls.collect::<Result<Vec<_>, _>>()?
        }
    };
    let path = fields.path("function_call");
    if let Some(value) = fields.take_large::<&RawValue>("function_call")? {
        calls.push(function(&path, value, String::new())?);
    }
    Ok(calls)
}

fn call(path: &str, value: &RawValue) -> Result<ToolCall, Fault> {
    let mut fields = Fields::of_value(path, value)?;
    // Some clients leave it out.
    if let Some(kind) = fields.take::<String>("type")?
        && kind != FUNCTION
    {
        let message = format!("calls of type '{}' are not supported; use 'function'", shorten(&kind));
        return Err(Fault::unsupported(fields.path("type"), message));
    }
    let id = fields.take::<String>("id")?.unwrap_or_default();
    let path = fields.path(FUNCTION);
    let Some(value) = fields.take_large::<&RawValue>(FUNCTION)? else { return Err(Fault::missing(path)) };
    function(&path, value, id)
}

fn function(path: &str, value: &RawValue, id: String) -> Result<ToolCall, Fault> {
    let mut fields = Fields::of_value(path, value)?;
    let name = fields.need::<String>("name")?;
    let path = fields.path("arguments");
    let arguments = match fields.take_large::<&RawValue>("arguments")? {
        None => String::new(),
        // A string of JSON; some clients send the JSON itself.
        Some(text) if text.get().starts_with('"') => serde_json::from_str(text.get())
            .map_err(|_| Fault::invalid(path, "the string has an escape that is no character"))?,
        Some(json) => json.get().to_owned(),
    };
    Ok(ToolCall { id, name, arguments })
}
