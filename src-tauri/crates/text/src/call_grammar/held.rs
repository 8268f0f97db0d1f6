//! Tools as grammars are built from them.

use serde_json::{Map, Value, json};

use super::texts::Texts;
use crate::Tool;
use crate::answer_form::call_form::Quotes;
use crate::output_format::OutputFormat;
use crate::parameters::{Kind, kind, properties};
use crate::schema::{SchemaFault, Strictness};

/// A tool, and the schema of its arguments as a grammar is built from it.
pub(crate) struct HeldTool<'a> {
    pub(crate) tool: &'a Tool,
    /// Of all arguments, as the library reads it.
    pub(crate) schema: Value,
    /// Of each of them, in the schema's order.
    pub(crate) arguments: Vec<HeldArgument>,
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

/// Where a schema has its definitions.
const DEFINITIONS: &[&str] = &["$defs", "definitions"];

impl<'a> HeldTool<'a> {
    /// Reads a tool's schema by `read`, which makes of a format what the library reads, for a form that writes texts like
    /// that. One that is not strict and cannot be read is any object.
    ///
    /// # Errors
    /// The schema of a strict tool cannot be held to.
    pub(crate) fn new(
        tool: &'a Tool,
        quotes: Quotes,
        read: impl Fn(&OutputFormat) -> Result<Value, SchemaFault>,
    ) -> Result<HeldTool<'a>, SchemaFault> {
        let strictness = if tool.strict { Strictness::Strict } else { Strictness::Lenient };
        let of = |schema: &Value| read(&OutputFormat::JsonSchema { schema: schema.clone(), strictness });
        let nothing = || json!({"type": "object", "properties": {}, "additionalProperties": false});
        let own = tool.parameters.clone().filter(|schema| !schema.is_null()).unwrap_or_else(nothing);
        // A call's arguments are an object, whether their schema says so or not.
        let mut own = own;
        if let Value::Object(object) = &mut own {
            object.entry("type").or_insert_with(|| "object".into());
        }
        let schema = match of(&own) {
            Err(_) if !tool.strict => read(&OutputFormat::JsonObject)?,
            schema => schema?,
        };
        let required: Vec<&str> = own
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut arguments = Vec::new();
        for (name, argument) in properties(tool).into_iter().flatten() {
            let with_definitions = match argument {
                Value::Object(argument) => {
                    let mut all = argument.clone();
                    for name in DEFINITIONS {
                        if let Some(definitions) = own.get(*name) {
                            all.entry(*name).or_insert_with(|| definitions.clone());
                        }
                    }
                    Value::Object(all)
                }
                other => other.clone(),
            };
            let schema = match of(&with_definitions) {
                Err(_) if !tool.strict => of(&Value::Object(Map::new()))?,
                schema => schema?,
            };
            let is_text = matches!(kind(Some(tool), name), Kind::Text | Kind::TextOrNull);
            let texts = match Texts::new(&schema) {
                Err(keyword) if tool.strict && is_text && quotes == Quotes::None => {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    let message =
                        format!("'{keyword}' cannot be held to where the model writes texts without quotes");
                    return Err(SchemaFault { pointer: format!("#/properties/{name}/{keyword}"), message });
                }
                texts => texts.unwrap_or_default(),
            };
            let is_required = required.contains(&name.as_str());
            arguments.push(HeldArgument { name: name.clone(), is_required, schema, texts });
        }
        Ok(HeldTool { tool, schema, arguments })
    }
}
