//! Tools as grammars are built from them.

use serde_json::{Value, json};

use super::texts::Texts;
use crate::Tool;
use crate::answer_form::call_form::Arguments;
use crate::parameters::{Kind, kind, properties};
use crate::schema::{MAX_SCHEMA_BYTES, SchemaFault, Strictness};

/// Bytes of all arguments' schemas of a tool: where references lead from many of them to the same, they are more than
/// the tool's.
const MAX_ARGUMENTS_BYTES: usize = MAX_SCHEMA_BYTES;

/// A tool, and the schema of its arguments as a grammar is built from it.
pub(crate) struct HeldTool<'a> {
    pub(crate) tool: &'a Tool,
    /// Of all arguments, as the library reads it.
    pub(crate) schema: Value,
    /// Of each of them, in the schema's order, where the form has them one by one.
    pub(crate) arguments: Vec<HeldArgument>,
    /// Bytes of the schemas that a grammar is built from: the one, or the others.
    pub(crate) n_bytes: usize,
}

/// An argument of a tool.
pub(crate) struct HeldArgument {
    pub(crate) name: String,
    pub(crate) is_required: bool,
    /// As the library reads it.
    pub(crate) schema: Value,
    /// What it may be where it is a text without quotes.
    pub(crate) texts: Texts,
}

/// A schema that is to be made what the library reads.
pub(crate) enum Wanted<'a> {
    AnyObject,
    AnyValue,
    Whole(&'a Value, Strictness),
    /// That of the property of this name.
    Property(&'a Value, &'a str, Strictness),
}

impl<'a> HeldTool<'a> {
    /// Reads a tool's schema by `read`, for a form that has arguments like that. What is not strict and cannot be read is
    /// any object, or any value.
    ///
    /// # Errors
    /// The schema of a strict tool cannot be held to.
    pub(crate) fn new(
        tool: &'a Tool,
        form: Arguments,
        read: impl Fn(Wanted<'_>) -> Result<Value, SchemaFault>,
    ) -> Result<HeldTool<'a>, SchemaFault> {
        let strictness = if tool.strict { Strictness::Strict } else { Strictness::Lenient };
        let nothing = || json!({"type": "object", "properties": {}, "additionalProperties": false});
        // A call's arguments are an object, whether their schema says so or not.
        let mut own = tool.parameters.clone().filter(|schema| !schema.is_null()).unwrap_or_else(nothing);
        if let Value::Object(object) = &mut own {
            object.entry("type").or_insert_with(|| "object".into());
        }
        let mut own_is_read = true;
        let schema = match read(Wanted::Whole(&own, strictness)) {
            Err(_) if !tool.strict => {
                own_is_read = false;
                read(Wanted::AnyObject)?
            }
            schema => schema?,
        };
        if form == Arguments::Document {
            let n_bytes = schema.to_string().len();
            return Ok(HeldTool { tool, schema, arguments: Vec::new(), n_bytes });
        }
        let mut held = HeldTool { tool, schema, arguments: Vec::new(), n_bytes: 0 };
        let required: Vec<&str> = own
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (name, argument) in properties(tool).into_iter().flatten() {
            if argument == &Value::Bool(false) {
                continue;
            }
            let is_over = held.n_bytes > MAX_ARGUMENTS_BYTES;
            let schema = match own_is_read && !is_over {
                true => read(Wanted::Property(&own, name, strictness)),
                false => Err(SchemaFault {
                    pointer: "#".into(),
                    message: format!(
                        "its properties, with what they refer to, have more than {MAX_ARGUMENTS_BYTES} bytes"
                    ),
                }),
            };
            let schema = match schema {
                Err(_) if !tool.strict => read(Wanted::AnyValue)?,
                schema => schema?,
            };
            held.n_bytes += schema.to_string().len();
            let is_text = matches!(kind(Some(tool), name), Kind::Text | Kind::TextOrNull);
            let texts = match Texts::new(&schema) {
                Err(keyword) if tool.strict && is_text && form == Arguments::EachUnquoted => {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    let message =
                        format!("'{keyword}' cannot be held to where the model writes texts without quotes");
                    return Err(SchemaFault { pointer: format!("#/properties/{name}/{keyword}"), message });
                }
                texts => texts.unwrap_or_default(),
            };
            let is_required = required.contains(&name.as_str());
            held.arguments.push(HeldArgument { name: name.clone(), is_required, schema, texts });
        }
        Ok(held)
    }
}
