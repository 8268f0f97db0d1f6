//! `POST /v1/responses`: what is honoured, and what is refused by name.

use std::sync::Arc;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use text::{Chat, ChatMessage, OutputFormat, Strictness};

use super::events::{Events, Keeping, Seal, Setting};
use super::history::Shelf;
use super::items::take_input;
use super::objects::AskedFor;
use super::shown_tools::{ShownTools, take_tools};
use crate::calls::agent_name;
use crate::calls::call::{Call, Names, Prompt, RequestedSampling};
use crate::calls::fault::{Fault, shorten};
use crate::calls::signing_key::SigningKey;
use crate::calls::thinking::{Effort, Thinking};
use crate::calls::tools::Parallel;
use crate::dialects::dialect::{Asked, Delivery};
use crate::dialects::fields::Fields;
use crate::dialects::remarks::Remarks;

/// Bytes of a schema: what it is built into is larger than its text many times over.
const MAX_SCHEMA_BYTES: usize = 256 << 10;
/// Most rivals that log-probabilities are reported with.
const MAX_TOP_LOGPROBS: usize = 20;
/// What `include` names where it asks for log-probabilities, and for a seal on what was thought.
const LOGPROBS: &str = "message.output_text.logprobs";
const SEALED: &str = "reasoning.encrypted_content";

const NAMES: Names = Names {
    prompt: "input",
    format: "text.format",
    schema: "text.format.schema",
    tools: "tools",
    tool_choice: "tool_choice",
    logit_bias: "logit_bias",
};

/// A body as a call. `key` is that which the server seals what was thought with, and `shelf` where responses are.
pub(crate) fn parse(body: &[u8], key: SigningKey, shelf: Arc<dyn Shelf>) -> Result<Asked, Fault> {
    let mut fields = Fields::of_body(body)?;
    let mut remarks = Remarks::default();
    let previous_response_id = fields.take::<String>("previous_response_id")?;
    let mut conversation = match &previous_response_id {
        Some(id) => shelf.find(id).ok_or_else(|| Fault::unknown_previous_response(id))?.messages.clone(),
        None => Vec::new(),
    };
    take_input(&mut fields, key, &mut conversation, &mut remarks)?;
    if conversation.is_empty() {
        return Err(Fault::invalid("input", "there must be at least one item"));
    }
    let instructions = fields.take_large::<String>("instructions")?;
    let echoed = Echoed::of(&mut fields)?;
    let ShownTools { tools, called } = take_tools(&mut fields, &mut remarks)?;
    let mut extra = serde_json::Map::new();
    let format = take_text(&mut fields, &mut extra)?;
    let thinking = take_reasoning(&mut fields)?;
    let include = take_include(&mut fields)?;
    let top_logprobs = fields.take_whole_within("top_logprobs", 0..=MAX_TOP_LOGPROBS)?;
    let max_output_tokens = fields.take_count("max_output_tokens", 1)?;
    let stream = fields.take::<bool>("stream")?.unwrap_or(false);
    let store = fields.take::<bool>("store")?.unwrap_or(true);
    let model = fields.take("model")?;
    let sampling = take_sampling(&mut fields)?;
    let prompt_cache_key = fields.take::<String>("prompt_cache_key")?;
    let agent = take_agent(prompt_cache_key.clone(), &echoed)?;
    refuse_the_rest(&mut fields)?;
    fields.finish()?;

    let asked = AskedFor {
        background: false,
        instructions: instructions.clone(),
        max_output_tokens,
        metadata: echoed.metadata,
        parallel_tool_calls: tools.parallel == Parallel::Any,
        previous_response_id,
        prompt_cache_key,
        reasoning: echoed.reasoning,
        service_tier: "default",
        store,
        temperature: sampling.choices.temperature,
        text: echoed.text,
        tool_choice: echoed.tool_choice,
        tools: echoed.tools,
        top_logprobs: top_logprobs.unwrap_or(0),
        top_p: sampling.choices.top_p,
        truncation: "disabled",
    };
    let keeping = store.then(|| Keeping { shelf, messages: conversation.clone() });
    let seal = if include.sealed { Seal::Wanted } else { Seal::Unwanted };
    let writer = Events::new(Setting { asked, called, key, seal, keeping });
    let chat = Chat {
        messages: with_instructions(instructions, conversation),
        add_generation_prompt: true,
        extra,
        ..Chat::default()
    };
    let call = Call {
        model,
        prompt: Prompt::Chat(chat),
        sampling,
        max_tokens: max_output_tokens,
        stop: Vec::new(),
        ignore_end_of_turn: false,
        format,
        tools,
        thinking,
        remarks: remarks.into_vec(),
        top_logprobs: (include.logprobs || top_logprobs.is_some_and(|n| n > 0))
            .then(|| top_logprobs.unwrap_or(0)),
        agent,
        names: NAMES,
    };
    let delivery = if stream { Delivery::Streamed } else { Delivery::Whole };
    Ok(Asked { call, delivery, writer: Box::new(writer) })
}

/// Instructions stand before the whole conversation, and with what it says first as the system, because most templates
/// take that once only.
fn with_instructions(instructions: Option<String>, mut messages: Vec<ChatMessage>) -> Vec<ChatMessage> {
    let Some(instructions) = instructions.filter(|text| !text.is_empty()) else { return messages };
    match messages.first_mut() {
        Some(first) if first.role == "system" => first.content = format!("{instructions}\n{}", first.content),
        _ => messages.insert(0, ChatMessage::new("system", instructions)),
    }
    messages
}

/// Fields as they were sent, for those that a response gives back.
struct Echoed {
    metadata: Box<RawValue>,
    reasoning: Box<RawValue>,
    text: Box<RawValue>,
    tool_choice: Box<RawValue>,
    tools: Box<RawValue>,
}

impl Echoed {
    /// What of a body is given back; metadata is taken out of it.
    fn of(fields: &mut Fields<'_>) -> Result<Echoed, Fault> {
        let as_sent = |name: &str, otherwise: Value| match fields.look(name) {
            Some(value) => value.to_owned(),
            None => to_raw_value(&otherwise).expect("small values are JSON"),
        };
        let reasoning = as_sent("reasoning", serde_json::json!({"effort": null, "summary": null}));
        let text = as_sent("text", serde_json::json!({"format": {"type": "text"}}));
        let tool_choice = as_sent("tool_choice", "auto".into());
        let tools = as_sent("tools", Value::Array(Vec::new()));
        let metadata = fields.take::<&RawValue>("metadata")?.map(ToOwned::to_owned);
        let metadata = metadata.unwrap_or_else(|| RawValue::from_string("{}".to_owned()).expect("JSON"));
        Ok(Echoed { metadata, reasoning, text, tool_choice, tools })
    }
}

/// What the answer must be, and how much it is to say.
fn take_text(
    fields: &mut Fields<'_>,
    extra: &mut serde_json::Map<String, Value>,
) -> Result<Option<OutputFormat>, Fault> {
    let Some(text) = fields.take_large::<&RawValue>("text")? else { return Ok(None) };
    if text.get().len() > MAX_SCHEMA_BYTES {
        return Err(Fault::invalid("text", format!("longer than {MAX_SCHEMA_BYTES} bytes")));
    }
    let mut text = Fields::of_value("text", text)?;
    if let Some(verbosity) = text.take::<String>("verbosity")? {
        if !["low", "medium", "high"].contains(&verbosity.as_str()) {
            let message = format!("'{}' is none of low, medium, high", shorten(&verbosity));
            return Err(Fault::invalid(text.path("verbosity"), message));
        }
        extra.insert("verbosity".to_owned(), verbosity.into());
    }
    let format_path = text.path("format");
    let format = text.take_large::<&RawValue>("format")?;
    text.finish()?;
    let Some(format) = format else { return Ok(None) };
    let mut format = Fields::of_value(&format_path, format)?;
    let wanted = match format.need::<String>("type")?.as_str() {
        "text" => None,
        "json_object" => Some(OutputFormat::JsonObject),
        "json_schema" => {
            format.pass(|name| matches!(name, "name" | "description"));
            let strictness = match format.take::<bool>("strict")? {
                Some(true) => Strictness::Strict,
                Some(false) | None => Strictness::Lenient,
            };
            let schema = format.take_large::<Value>("schema")?;
            let schema = schema.ok_or_else(|| Fault::missing(format.path("schema")))?;
            Some(OutputFormat::JsonSchema { schema, strictness })
        }
        _ => return Err(Fault::invalid(format.path("type"), "none of text, json_object or json_schema")),
    };
    format.finish()?;
    Ok(wanted)
}

fn take_reasoning(fields: &mut Fields<'_>) -> Result<Thinking, Fault> {
    let mut thinking = Thinking::default();
    let Some(reasoning) = fields.take::<&RawValue>("reasoning")? else { return Ok(thinking) };
    let mut reasoning = Fields::of_value("reasoning", reasoning)?;
    if let Some(effort) = reasoning.take::<String>("effort")? {
        let known = Effort::named(&effort);
        if known.is_none() {
            let efforts: Vec<&str> = Effort::ALL.iter().map(|effort| effort.name()).collect();
            let message = format!("'{}' is none of {}", shorten(&effort), efforts.join(", "));
            return Err(Fault::invalid(reasoning.path("effort"), message));
        }
        thinking.effort = known;
    }
    // What was thought is always given whole, which is the longest summary that there is.
    reasoning.pass(|name| matches!(name, "summary" | "generate_summary"));
    reasoning.finish()?;
    Ok(thinking)
}

#[derive(Default)]
struct Include {
    logprobs: bool,
    sealed: bool,
}

/// What else to give out. What belongs to tools that are not here has nothing to give.
fn take_include(fields: &mut Fields<'_>) -> Result<Include, Fault> {
    let include = fields.take::<Vec<String>>("include")?.unwrap_or_default();
    let has = |name: &str| include.iter().any(|other| other == name);
    Ok(Include { logprobs: has(LOGPROBS), sealed: has(SEALED) })
}

fn take_sampling(fields: &mut Fields<'_>) -> Result<RequestedSampling, Fault> {
    let mut sampling = RequestedSampling::default();
    sampling.choices.temperature = fields.take_within("temperature", 0.0..=2.0)?;
    sampling.choices.top_p = fields.take_within("top_p", 0.0..=1.0)?;
    Ok(sampling)
}

fn take_agent(prompt_cache_key: Option<String>, echoed: &Echoed) -> Result<Option<String>, Fault> {
    let user_id = match echoed.metadata.get().starts_with('{') {
        true => Fields::of_value("metadata", &echoed.metadata)?.take("user_id")?,
        false => return Err(Fault::invalid("metadata", "an object is wanted")),
    };
    Ok(agent_name::from_body([None, prompt_cache_key, user_id]))
}

/// What the API has and this server does not; values that ask for what happens anyway pass, and so do hints that
/// cannot change an answer.
fn refuse_the_rest(fields: &mut Fields<'_>) -> Result<(), Fault> {
    fields.refuse("background", &["false"])?;
    fields.refuse("conversation", &[])?;
    fields.refuse("prompt", &[])?;
    fields.refuse("truncation", &["\"disabled\""])?;
    fields.refuse("context_management", &["[]"])?;
    // Who the end user is, what is billed and how, how long a prompt stays cached, how a stream is padded, and how often
    // tools may be called that are not here.
    let hints =
        ["user", "safety_identifier", "service_tier", "client_metadata", "stream_options", "max_tool_calls"];
    fields.pass(|name| hints.contains(&name) || name.starts_with("prompt_cache_"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::history::KeptResponse;
    use super::*;

    /// A shelf of one response.
    struct OneResponse(Arc<KeptResponse>);

    impl Shelf for OneResponse {
        fn find(&self, id: &str) -> Option<Arc<KeptResponse>> {
            (self.0.id == id).then(|| Arc::clone(&self.0))
        }

        fn keep(&self, _: KeptResponse) {}
    }

    fn call(more: &str) -> Result<Asked, Fault> {
        read(&format!(r#"{{"model":"m","input":"hi"{more}}}"#))
    }

    fn read(body: &str) -> Result<Asked, Fault> {
        let messages = vec![ChatMessage::new("user", "a"), ChatMessage::new("assistant", "b")];
        let kept = KeptResponse { id: "resp_1".to_owned(), body: String::new(), messages };
        parse(body.as_bytes(), SigningKey::new([7; 32]), Arc::new(OneResponse(Arc::new(kept))))
    }

    fn messages(more: &str) -> String {
        let Prompt::Chat(chat) = call(more).unwrap().call.prompt else { panic!("a chat") };
        let lines = chat.messages.iter().map(|message| format!("{}: {}", message.role, message.content));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_response_goes_on_with_an_earlier_one_under_instructions_of_its_own() {
        assert_eq!(messages(""), "user: hi");
        assert_eq!(messages(r#","instructions":"brief""#), "system: brief\nuser: hi");
        assert_eq!(
            messages(r#","instructions":"brief","previous_response_id":"resp_1""#),
            "system: brief\nuser: a\nassistant: b\nuser: hi"
        );
        let nothing = read(r#"{"input":[]}"#).err().unwrap();
        assert_eq!(nothing.place.as_deref(), Some("input"));
        assert!(read(r#"{"input":[],"previous_response_id":"resp_1"}"#).is_ok());
        let unknown = call(r#","previous_response_id":"resp_2""#).err().unwrap();
        assert_eq!(unknown.place.as_deref(), Some("previous_response_id"));
        assert_eq!(unknown.kind.name(), "previous_response_not_found");
    }

    #[test]
    fn what_bounds_and_steers_an_answer_is_taken() {
        let asked = call(
            r#","stream":true,"max_output_tokens":9,"temperature":0.5,"top_p":0.9,"prompt_cache_key":"k",
            "reasoning":{"effort":"low","summary":"auto"},"include":["reasoning.encrypted_content"],
            "text":{"verbosity":"low","format":{"type":"json_schema","name":"n","schema":{},"strict":true}}"#,
        )
        .unwrap();
        assert_eq!((asked.call.max_tokens, asked.call.agent.as_deref()), (Some(9), Some("k")));
        assert_eq!(asked.call.thinking.effort, Some(Effort::Low));
        assert_eq!(asked.call.sampling.choices.temperature, Some(0.5));
        let format = asked.call.format;
        assert!(matches!(format, Some(OutputFormat::JsonSchema { strictness: Strictness::Strict, .. })));
        let Prompt::Chat(chat) = asked.call.prompt else { panic!("a chat") };
        assert_eq!(chat.extra["verbosity"], "low");
        assert_eq!(
            call(r#","include":["message.output_text.logprobs"]"#).unwrap().call.top_logprobs,
            Some(0)
        );
        assert_eq!(call(r#","top_logprobs":3"#).unwrap().call.top_logprobs, Some(3));
    }

    #[test]
    fn what_coding_agents_send_besides_passes() {
        for more in [
            r#","client_metadata":{"a":"b"},"store":false,"tool_choice":"auto","parallel_tool_calls":true"#,
            r#","truncation":"disabled","background":false,"service_tier":"flex","user":"u","max_tool_calls":3"#,
            r#","stream_options":{"include_obfuscation":false},"prompt_cache_retention":"24h","metadata":{"a":"b"}"#,
            r#","text":{"format":{"type":"text"}},"include":["file_search_call.results"],"conversation":null"#,
        ] {
            assert!(call(more).is_ok(), "{more} {:?}", call(more).err());
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (more, place) in [
            (r#","background":true"#, "background"),
            (r#","conversation":"conv_1""#, "conversation"),
            (r#","prompt":{"id":"p"}"#, "prompt"),
            (r#","truncation":"auto""#, "truncation"),
            (r#","max_output_tokens":0"#, "max_output_tokens"),
            (r#","top_logprobs":21"#, "top_logprobs"),
            (r#","reasoning":{"effort":"huge"}"#, "reasoning.effort"),
            (r#","reasoning":{"depth":1}"#, "reasoning.depth"),
            (r#","text":{"verbosity":"chatty"}"#, "text.verbosity"),
            (r#","text":{"format":{"type":"json_schema","name":"n"}}"#, "text.format.schema"),
            (r#","metadata":7"#, "metadata"),
            (r#","messages":[]"#, "messages"),
        ] {
            assert_eq!(call(more).err().unwrap().place.as_deref(), Some(place), "{more}");
        }
    }
}
