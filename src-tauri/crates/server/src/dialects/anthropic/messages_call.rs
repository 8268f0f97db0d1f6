//! `POST /v1/messages` and `/v1/messages/count_tokens`: what is honoured, and what is refused by name.

use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;
use text::{Chat, OutputFormat, Strictness};

use super::answers::{Blocks, Display};
use super::diagnostics::{Diagnosis, Diary};
use super::history::{History, take_history};
use super::tools::take_tools;
use crate::calls::agent_name;
use crate::calls::call::{Call, Names, Prompt, RequestedSampling};
use crate::calls::fault::{Fault, shorten};
use crate::calls::signing_key::SigningKey;
use crate::calls::thinking::{Effort, Thinking};
use crate::dialects::dialect::{Asked, Delivery};
use crate::dialects::fields::Fields;
use crate::dialects::stops::take_stops;

/// Bytes of a schema: what it is built into is larger than its text many times over.
const MAX_SCHEMA_BYTES: usize = 256 << 10;

const NAMES: Names = Names {
    prompt: "messages",
    format: "output_config.format",
    schema: "output_config.format.schema",
    tools: "tools",
    tool_choice: "tool_choice",
    logit_bias: "logit_bias",
};

/// A body as a call. `key` is that which the server signs thinking with, and `diary` where it notes which models
/// answered.
pub(crate) fn parse(body: &[u8], key: SigningKey, diary: Arc<dyn Diary>) -> Result<Asked, Fault> {
    let mut fields = Fields::of_body(body)?;
    let Some(max_tokens) = fields.take_count("max_tokens", 0)? else {
        return Err(Fault::missing("max_tokens"));
    };
    let stream = fields.take::<bool>("stream")?.unwrap_or(false);
    let delivery = if stream { Delivery::Streamed } else { Delivery::Whole };
    read(fields, key, Answering { max_tokens, delivery, diary: Some(diary) })
}

/// As [`parse`], of a body whose answer is not wanted.
pub(crate) fn parse_count(body: &[u8], key: SigningKey) -> Result<Asked, Fault> {
    let mut fields = Fields::of_body(body)?;
    // Some clients send what they would send for an answer.
    fields.pass(|name| matches!(name, "max_tokens" | "stream" | "diagnostics"));
    read(fields, key, Answering { max_tokens: 0, delivery: Delivery::Whole, diary: None })
}

/// What only a body has whose answer is wanted.
struct Answering {
    max_tokens: usize,
    delivery: Delivery,
    diary: Option<Arc<dyn Diary>>,
}

fn read(mut fields: Fields<'_>, key: SigningKey, answering: Answering) -> Result<Asked, Fault> {
    let Answering { max_tokens, delivery, diary } = answering;
    let History { messages, continue_final, mut remarks } = take_history(&mut fields, key)?;
    let tools = take_tools(&mut fields, &mut remarks)?;
    let (mut thinking, display) = take_thinking(&mut fields)?;
    let format = take_output(&mut fields, &mut thinking)?;
    let model = fields.take::<String>("model")?;
    let diagnosis = match diary {
        Some(diary) => Diagnosis::take(&mut fields, diary)?,
        None => None,
    };
    let sampling = take_sampling(&mut fields)?;
    let stop = take_stops(&mut fields, "stop_sequences")?;
    let agent = take_agent(&mut fields)?;
    refuse_the_rest(&mut fields)?;
    fields.finish()?;

    let chat = Chat { messages, add_generation_prompt: !continue_final, continue_final, ..Chat::default() };
    let call = Call {
        model,
        prompt: Prompt::Chat(chat),
        sampling,
        max_tokens: Some(max_tokens),
        stop,
        ignore_end_of_turn: false,
        format,
        tools,
        thinking,
        remarks: remarks.into_vec(),
        top_logprobs: None,
        agent,
        names: NAMES,
    };
    Ok(Asked { call, delivery, writer: Box::new(Blocks::new(key, display, max_tokens, diagnosis)) })
}

/// Whether to think, and whether the answer shows it. The API's default is neither.
fn take_thinking(fields: &mut Fields<'_>) -> Result<(Thinking, Display), Fault> {
    let unwanted = Thinking { wanted: Some(false), ..Thinking::default() };
    let Some(thinking) = fields.take::<&RawValue>("thinking")? else {
        return Ok((unwanted, Display::Hidden));
    };
    let mut thinking = Fields::of_value("thinking", thinking)?;
    let kind = thinking.need::<String>("type")?;
    let wanted = match kind.as_str() {
        "enabled" | "adaptive" | "between_tools" => true,
        "disabled" => false,
        _ => {
            let message = "none of enabled, adaptive, between_tools or disabled";
            return Err(Fault::invalid(thinking.path("type"), message));
        }
    };
    let budget = thinking.take_count("budget_tokens", 1)?;
    let display = match thinking.take::<String>("display")?.as_deref() {
        None | Some("summarized") => Display::Shown,
        Some("omitted") => Display::Omitted,
        Some(_) => return Err(Fault::invalid(thinking.path("display"), "none of summarized or omitted")),
    };
    thinking.finish()?;
    let display = if wanted { display } else { Display::Hidden };
    Ok((Thinking { wanted: Some(wanted), budget, ..Thinking::default() }, display))
}

/// `output_config`, and the older name of its format.
fn take_output(fields: &mut Fields<'_>, thinking: &mut Thinking) -> Result<Option<OutputFormat>, Fault> {
    let older = take_format(fields, "output_format")?;
    let Some(config) = fields.take_large::<&RawValue>("output_config")? else { return Ok(older) };
    let mut config = Fields::of_value("output_config", config)?;
    if let Some(effort) = config.take::<String>("effort")? {
        let known = Effort::named(&effort).filter(|effort| !matches!(effort, Effort::None | Effort::Minimal));
        let Some(known) = known else {
            let message = format!("'{}' is none of low, medium, high, xhigh or max", shorten(&effort));
            return Err(Fault::invalid(config.path("effort"), message));
        };
        thinking.effort = Some(known);
    }
    let format = take_format(&mut config, "format")?;
    // How much a whole task may take: a wish that binds no single answer.
    config.pass(|name| name == "task_budget");
    config.finish()?;
    match (&format, older) {
        (Some(_), Some(_)) => {
            let message = "'output_config.format' and 'output_format' are the same; give one of them";
            Err(Fault::invalid("output_format", message))
        }
        (None, older) => Ok(older),
        _ => Ok(format),
    }
}

fn take_format(fields: &mut Fields<'_>, name: &str) -> Result<Option<OutputFormat>, Fault> {
    let path = fields.path(name);
    let Some(format) = fields.take_large::<&RawValue>(name)? else { return Ok(None) };
    if format.get().len() > MAX_SCHEMA_BYTES {
        return Err(Fault::invalid(path, format!("longer than {MAX_SCHEMA_BYTES} bytes")));
    }
    let mut format = Fields::of_value(&path, format)?;
    if format.need::<String>("type")? != "json_schema" {
        return Err(Fault::invalid(format.path("type"), "only json_schema is known"));
    }
    let schema = format.take_large::<Value>("schema")?;
    let schema = schema.ok_or_else(|| Fault::missing(format.path("schema")))?;
    format.finish()?;
    Ok(Some(OutputFormat::JsonSchema { schema, strictness: Strictness::Strict }))
}

fn take_sampling(fields: &mut Fields<'_>) -> Result<RequestedSampling, Fault> {
    let mut sampling = RequestedSampling::default();
    let choices = &mut sampling.choices;
    choices.temperature = fields.take_within("temperature", 0.0..=2.0)?;
    choices.top_p = fields.take_within("top_p", 0.0..=1.0)?;
    choices.top_k = fields.take_count("top_k", 0)?;
    Ok(sampling)
}

/// `metadata.user_id`, which is what the API has for who is asking.
fn take_agent(fields: &mut Fields<'_>) -> Result<Option<String>, Fault> {
    let user_id = match fields.take::<&RawValue>("metadata")? {
        Some(metadata) => Fields::of_value("metadata", metadata)?.take("user_id")?,
        None => None,
    };
    Ok(agent_name::from_body([None, None, user_id]))
}

/// What the API has and this server does not; values that ask for what happens anyway pass, and so do hints that
/// cannot change an answer.
fn refuse_the_rest(fields: &mut Fields<'_>) -> Result<(), Fault> {
    take_context_management(fields)?;
    fields.refuse("mcp_servers", &["[]"])?;
    fields.refuse("container", &[])?;
    if fields.take_large::<&RawValue>("thread")?.is_some() {
        return Err(Fault::no_threads("thread"));
    }
    fields.refuse("compaction", &[])?;
    // What it costs, where and how fast it is done, what stays cached, and who else would answer where the model refuses.
    let hints = ["service_tier", "inference_geo", "speed", "cache_control", "billing_policy", "fallbacks"];
    fields.pass(|name| hints.contains(&name));
    Ok(())
}

/// Edits of the conversation. Which thinking a model is shown is its template's matter, so edits of that pass.
fn take_context_management(fields: &mut Fields<'_>) -> Result<(), Fault> {
    let Some(management) = fields.take::<&RawValue>("context_management")? else { return Ok(()) };
    let mut management = Fields::of_value("context_management", management)?;
    let edits = management.take::<Vec<&RawValue>>("edits")?.unwrap_or_default();
    for (i, edit) in edits.into_iter().enumerate() {
        let mut edit = Fields::of_value(&format!("context_management.edits.{i}"), edit)?;
        let kind = edit.need::<String>("type")?;
        if !kind.starts_with("clear_thinking_") {
            let message = format!("edits of type '{}' are not supported", shorten(&kind));
            return Err(Fault::unsupported(edit.path("type"), message));
        }
    }
    management.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes nothing.
    struct NoDiary;

    impl Diary for NoDiary {
        fn model_of(&self, _: &str) -> Option<[u8; 32]> {
            None
        }

        fn note(&self, _: String, _: [u8; 32]) {}
    }

    fn call(more: &str) -> Result<Asked, Fault> {
        let body =
            format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        parse(body.as_bytes(), SigningKey::new([7; 32]), Arc::new(NoDiary))
    }

    #[test]
    fn what_bounds_and_steers_an_answer_is_taken() {
        let asked = call(
            r#","stream":true,"temperature":0.5,"top_p":0.9,"top_k":40,"stop_sequences":["a","b"],
            "metadata":{"user_id":"u-1"},"system":"s""#,
        )
        .unwrap();
        let Call { model, sampling, max_tokens, stop, agent, .. } = asked.call;
        assert_eq!((model.as_deref(), max_tokens, agent.as_deref()), (Some("m"), Some(9), Some("u-1")));
        let choices = sampling.choices;
        assert_eq!((choices.temperature, choices.top_p, choices.top_k), (Some(0.5), Some(0.9), Some(40)));
        assert_eq!((stop, asked.delivery), (vec!["a".to_owned(), "b".to_owned()], Delivery::Streamed));
    }

    #[test]
    fn thinking_is_off_unless_it_is_asked_for_and_an_effort_is_passed_on() {
        let thinking = |more: &str| call(more).unwrap().call.thinking;
        assert_eq!(thinking(""), Thinking { wanted: Some(false), ..Thinking::default() });
        assert_eq!(thinking(r#","thinking":{"type":"disabled"}"#).wanted, Some(false));
        assert_eq!(thinking(r#","thinking":{"type":"adaptive","display":"omitted"}"#).wanted, Some(true));
        let enabled = thinking(
            r#","thinking":{"type":"enabled","budget_tokens":2048},"output_config":{"effort":"max"}"#,
        );
        assert_eq!(enabled, Thinking { wanted: Some(true), effort: Some(Effort::Max), budget: Some(2048) });
    }

    #[test]
    fn a_schema_has_two_names() {
        let format = r#"{"type":"json_schema","schema":{"type":"object"}}"#;
        for more in
            [format!(r#","output_config":{{"format":{format}}}"#), format!(r#","output_format":{format}"#)]
        {
            let format = call(&more).unwrap().call.format;
            assert!(matches!(format, Some(OutputFormat::JsonSchema { strictness: Strictness::Strict, .. })));
        }
        let both = format!(r#","output_format":{format},"output_config":{{"format":{format}}}"#);
        assert_eq!(call(&both).err().unwrap().place.as_deref(), Some("output_format"));
    }

    #[test]
    fn what_coding_agents_send_besides_passes() {
        for more in [
            r#","context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]}"#,
            r#","service_tier":"auto","inference_geo":"us","speed":"fast","cache_control":{"type":"ephemeral"}"#,
            r#","mcp_servers":[],"container":null,"thread":null,"diagnostics":{"previous_message_id":"msg_1"}"#,
            r#","output_config":{"task_budget":{"type":"tokens","total":9}},"temperature":1,"tools":[]"#,
        ] {
            assert!(call(more).is_ok(), "{more} {:?}", call(more).err());
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (more, place) in [
            (r#","max_token":5"#, "max_token"),
            (r#","temperature":3"#, "temperature"),
            (r#","top_k":-1"#, "top_k"),
            (r#","stop_sequences":[""]"#, "stop_sequences"),
            (r#","mcp_servers":[{"url":"x"}]"#, "mcp_servers"),
            (r#","container":"c""#, "container"),
            (r#","thread":{"type":"create"}"#, "thread"),
            (r#","thinking":{"type":"hard"}"#, "thinking.type"),
            (r#","thinking":{"type":"enabled","budget_tokens":0}"#, "thinking.budget_tokens"),
            (r#","thinking":{"type":"enabled","display":"loud"}"#, "thinking.display"),
            (r#","output_config":{"effort":"none"}"#, "output_config.effort"),
            (r#","output_config":{"format":{"type":"xml"}}"#, "output_config.format.type"),
            (r#","output_config":{"format":{"type":"json_schema"}}"#, "output_config.format.schema"),
            (
                r#","context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#,
                "context_management.edits.0.type",
            ),
            (r#","n":2"#, "n"),
        ] {
            assert_eq!(call(more).err().unwrap().place.as_deref(), Some(place), "{more}");
        }
        let without = br#"{"messages":[{"role":"user","content":"hi"}]}"#;
        let without = parse(without, SigningKey::new([7; 32]), Arc::new(NoDiary));
        assert_eq!(without.err().unwrap().place.as_deref(), Some("max_tokens"));
    }

    #[test]
    fn tokens_are_counted_of_a_body_with_or_without_a_bound() {
        for more in ["", r#","max_tokens":5,"stream":true"#] {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
            assert!(parse_count(body.as_bytes(), SigningKey::new([7; 32])).is_ok());
        }
    }
}
