//! The items of an input as messages that a chat template can show.

use serde_json::Value;
use serde_json::value::RawValue;
use text::{ChatMessage, ToolCall};

use super::shown_tools::shown_name;
use crate::calls::fault::{Fault, shorten};
use crate::calls::signing_key::SigningKey;
use crate::dialects::fields::{Fields, RawList};
use crate::dialects::remarks::Remarks;

/// Items that tell what a service's own tools did, or what only the service can read that wrote it.
const LEFT_OUT: &[&str] = &[
    "compaction",
    "compaction_summary",
    "web_search_call",
    "file_search_call",
    "computer_call",
    "computer_call_output",
    "image_generation_call",
    "code_interpreter_call",
    "tool_search_call",
    "tool_search_output",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
];

/// Take `input` out of a body: a string, which is a user's message, or items. They follow `messages`.
///
/// # Errors
/// An item is not what a chat template can show; the error names which and where.
pub(crate) fn take_input(
    fields: &mut Fields<'_>,
    key: SigningKey,
    messages: &mut Vec<ChatMessage>,
    remarks: &mut Remarks,
) -> Result<(), Fault> {
    let Some(input) = fields.take_large::<&RawValue>("input")? else { return Err(Fault::missing("input")) };
    if input.get().starts_with('"') {
        let text = serde_json::from_str::<String>(input.get());
        let text =
            text.map_err(|_| Fault::invalid("input", "the string has an escape that is no character"))?;
        messages.push(ChatMessage::new("user", text));
        return Ok(());
    }
    let Ok(RawList(items)) = serde_json::from_str::<RawList<'_>>(input.get()) else {
        return Err(Fault::invalid("input", "expected a string or a list of items"));
    };
    for (i, item) in items.iter().enumerate() {
        read_item(&format!("input[{i}]"), item, key, messages, remarks)?;
    }
    Ok(())
}

fn read_item(
    path: &str,
    item: &RawValue,
    key: SigningKey,
    messages: &mut Vec<ChatMessage>,
    remarks: &mut Remarks,
) -> Result<(), Fault> {
    let mut fields = Fields::of_value(path, item)?;
    // Other fields are notes to other servers: an item's id and status, for example.
    match fields.take::<String>("type")?.as_deref() {
        // The shortest form of a message has no type.
        None | Some("message") => message(&mut fields, messages),
        Some("reasoning") => reasoning(&mut fields, key, messages, remarks),
        Some("function_call") => {
            let arguments = fields.take_large::<String>("arguments")?;
            let arguments = arguments.ok_or_else(|| Fault::missing(fields.path("arguments")))?;
            call(&mut fields, arguments, messages)
        }
        Some("custom_tool_call") => {
            let input = fields.take_large::<String>("input")?;
            let input = input.ok_or_else(|| Fault::missing(fields.path("input")))?;
            let arguments = serde_json::json!({ "input": input }).to_string();
            call(&mut fields, arguments, messages)
        }
        Some("function_call_output" | "custom_tool_call_output") => output(&mut fields, messages),
        Some(kind) if LEFT_OUT.contains(&kind) => {
            remarks.add(format!("an item of type '{kind}' was left out: it means nothing here"));
            Ok(())
        }
        Some(other) => {
            let message = format!("an item of type '{}' is not supported", shorten(other));
            Err(Fault::unsupported(fields.path("type"), message))
        }
    }
}

fn message(fields: &mut Fields<'_>, messages: &mut Vec<ChatMessage>) -> Result<(), Fault> {
    let role = fields.need::<String>("role")?;
    let content_path = fields.path("content");
    let Some(content) = fields.take_large::<&RawValue>("content")? else {
        return Err(Fault::missing(content_path));
    };
    let text = text_of(&content_path, content)?;
    match role.as_str() {
        "assistant" => {
            let message = answer(messages);
            if !message.content.is_empty() && !text.is_empty() {
                message.content.push('\n');
            }
            message.content.push_str(&text);
        }
        // Templates know the role under its older name, and most take it once only.
        "developer" | "system" => match messages.last_mut() {
            Some(before) if before.role == "system" => {
                before.content.push('\n');
                before.content.push_str(&text);
            }
            _ => messages.push(ChatMessage::new("system", text)),
        },
        "user" => messages.push(ChatMessage::new("user", text)),
        other => {
            let message = format!("'{}' is none of user, assistant, system or developer", shorten(other));
            return Err(Fault::invalid(fields.path("role"), message));
        }
    }
    Ok(())
}

/// The answer that thinking, text and calls belong to: they are items of their own, and one turn of the model.
fn answer(messages: &mut Vec<ChatMessage>) -> &mut ChatMessage {
    if messages.last().is_none_or(|last| last.role != "assistant") {
        messages.push(ChatMessage::new("assistant", ""));
    }
    messages.last_mut().expect("there is one by now")
}

/// What the model thought. What comes with a seal must be sealed by this server: other thinking is another model's.
fn reasoning(
    fields: &mut Fields<'_>,
    key: SigningKey,
    messages: &mut Vec<ChatMessage>,
    remarks: &mut Remarks,
) -> Result<(), Fault> {
    let mut texts = Vec::new();
    for name in ["content", "summary"] {
        let path = fields.path(name);
        let Some(parts) = fields.take_large::<&RawValue>(name)? else { continue };
        let text = text_of(&path, parts)?;
        if !text.is_empty() {
            texts.push(text);
        }
    }
    let thinking = texts.into_iter().next().unwrap_or_default();
    if let Some(seal) = fields.take_large::<String>("encrypted_content")?
        && !key.verifies(&thinking, &seal)
    {
        remarks.add("reasoning was left out whose encrypted_content is not this server's");
        return Ok(());
    }
    if !thinking.is_empty() {
        let message = answer(messages);
        let before = message.thinking.take();
        message.thinking = Some(before.into_iter().chain([thinking]).collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}

fn call(fields: &mut Fields<'_>, arguments: String, messages: &mut Vec<ChatMessage>) -> Result<(), Fault> {
    let id = fields.need::<String>("call_id")?;
    let name = fields.need::<String>("name")?;
    let namespace = fields.take::<String>("namespace")?;
    let name = shown_name(namespace.as_deref(), &name);
    answer(messages).tool_calls.push(ToolCall { id, name, arguments });
    Ok(())
}

fn output(fields: &mut Fields<'_>, messages: &mut Vec<ChatMessage>) -> Result<(), Fault> {
    let id = fields.need::<String>("call_id")?;
    let path = fields.path("output");
    let Some(output) = fields.take_large::<&RawValue>("output")? else { return Err(Fault::missing(path)) };
    let mut message = ChatMessage::new("tool", text_of(&path, output)?);
    message.tool_call_id = Some(id);
    messages.push(message);
    Ok(())
}

/// The text of a string or of parts, which are paragraphs.
fn text_of(path: &str, content: &RawValue) -> Result<String, Fault> {
    if content.get().starts_with('"') {
        let text = serde_json::from_str(content.get());
        return text.map_err(|_| Fault::invalid(path, "the string has an escape that is no character"));
    }
    let Ok(RawList(parts)) = serde_json::from_str::<RawList<'_>>(content.get()) else {
        return Err(Fault::invalid(path, "expected a string or a list of parts"));
    };
    let texts = parts.iter().enumerate().map(|(i, part)| text_of_part(&format!("{path}[{i}]"), part));
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

fn text_of_part(path: &str, part: &RawValue) -> Result<String, Fault> {
    let mut fields = Fields::of_value(path, part)?;
    let kind = fields.need::<String>("type")?;
    let name = match kind.as_str() {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => "text",
        "refusal" => "refusal",
        other => {
            let message = format!("content of type '{}' is not supported; use 'input_text'", shorten(other));
            return Err(Fault::unsupported(fields.path("type"), message));
        }
    };
    fields.take_large(name)?.ok_or_else(|| Fault::missing(fields.path(name)))
}

/// What a custom tool was given, out of the arguments of the function that it is shown as.
pub(crate) fn custom_input(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(mut object)) => match object.remove("input") {
            Some(Value::String(input)) => input,
            _ => arguments.to_owned(),
        },
        // It was cut, or the model did as it liked: what there is of it.
        _ => arguments.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(input: &str) -> Result<(Vec<ChatMessage>, Vec<String>), Fault> {
        let body = format!(r#"{{"input":{input}}}"#);
        let mut fields = Fields::of_body(body.as_bytes())?;
        let (mut messages, mut remarks) = (Vec::new(), Remarks::default());
        take_input(&mut fields, SigningKey::new([7; 32]), &mut messages, &mut remarks)?;
        Ok((messages, remarks.into_vec()))
    }

    /// A message a line: role, thinking in round brackets, content, calls in square ones; the id of a result.
    fn show(input: &str) -> String {
        let line = |message: &ChatMessage| {
            let id = message.tool_call_id.as_ref().map_or(String::new(), |id| format!(" {id}"));
            let thinking = message.thinking.as_ref().map_or(String::new(), |text| format!(" ({text})"));
            let calls = message.tool_calls.iter();
            let calls: String =
                calls.map(|call| format!(" [{} {}{}]", call.id, call.name, call.arguments)).collect();
            format!("{}{id}:{thinking} {}{calls}", message.role, message.content.replace('\n', "/"))
        };
        take(input).unwrap().0.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_input_is_a_string_or_messages_with_or_without_a_type() {
        assert_eq!(show(r#""hi""#), "user: hi");
        assert_eq!(
            show(
                r#"[{"role":"user","content":"a"},
                {"type":"message","id":"msg_1","role":"assistant","status":"completed",
                 "content":[{"type":"output_text","text":"b","annotations":[],"logprobs":[]}]},
                {"type":"message","role":"user","content":[{"type":"input_text","text":"c"},{"type":"input_text","text":"d"}]}]"#
            ),
            "user: a\nassistant: b\nuser: c/d"
        );
    }

    #[test]
    fn an_agents_first_request_has_two_developers_and_two_users() {
        assert_eq!(
            show(
                r#"[{"type":"message","role":"developer","content":[{"type":"input_text","text":"rules"}]},
                {"type":"message","role":"developer","content":[{"type":"input_text","text":"more"}]},
                {"type":"message","role":"user","content":[{"type":"input_text","text":"<environment_context>"}]},
                {"type":"message","role":"user","content":[{"type":"input_text","text":"question"}]}]"#
            ),
            "system: rules/more\nuser: <environment_context>\nuser: question"
        );
    }

    #[test]
    fn reasoning_text_and_calls_are_one_turn_and_results_are_their_own() {
        let input = r#"[{"role":"user","content":"go"},
            {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"think"}]},
            {"type":"message","role":"assistant","content":[{"type":"output_text","text":"ok"}]},
            {"type":"function_call","id":"fc_1","call_id":"call_1","name":"shell","arguments":"{\"a\": 1}","status":"completed"},
            {"type":"function_call","call_id":"call_2","name":"spawn","namespace":"multi","arguments":"{}"},
            {"type":"function_call_output","id":"fco_1","call_id":"call_1","output":"done"},
            {"type":"function_call_output","call_id":"call_2","output":[{"type":"input_text","text":"x"}]},
            {"type":"custom_tool_call","call_id":"call_3","name":"apply_patch","input":"*** \"Begin\""},
            {"type":"custom_tool_call_output","call_id":"call_3","output":"patched"}]"#;
        let want = r#"user: go
assistant: (think) ok [call_1 shell{"a": 1}] [call_2 multi__spawn{}]
tool call_1: done
tool call_2: x
assistant:  [call_3 apply_patch{"input":"*** \"Begin\""}]
tool call_3: patched"#;
        assert_eq!(show(input), want);
    }

    #[test]
    fn sealed_reasoning_must_be_sealed_by_this_server() {
        let seal = SigningKey::new([7; 32]).sign("think");
        let item = |seal: &str| {
            format!(
                r#"[{{"type":"reasoning","content":null,"summary":[{{"type":"summary_text","text":"think"}}],"encrypted_content":"{seal}"}},
                {{"role":"assistant","content":"4"}}]"#
            )
        };
        assert_eq!(show(&item(&seal)), "assistant: (think) 4");
        assert_eq!(show(&item("gAAAAA")), "assistant: 4");
        assert!(take(&item("gAAAAA")).unwrap().1[0].contains("encrypted_content"));
    }

    #[test]
    fn what_the_service_did_itself_is_left_out_with_a_remark() {
        let (messages, remarks) = take(
            r#"[{"type":"web_search_call","id":"ws_1","status":"completed"},{"role":"user","content":"x"}]"#,
        )
        .unwrap();
        assert_eq!((messages.len(), remarks.len()), (1, 1));
    }

    #[test]
    fn what_cannot_be_shown_to_the_model_is_refused_where_it_stands() {
        for (input, place) in [
            ("null", "input"),
            ("7", "input"),
            (r#""\ud800""#, "input"),
            ("[7]", "input[0]"),
            ("[{}]", "input[0].role"),
            (r#"[{"role":"user"}]"#, "input[0].content"),
            (r#"[{"role":"tool","content":"x"}]"#, "input[0].role"),
            (r#"[{"role":"user","content":[{"type":"input_image"}]}]"#, "input[0].content[0].type"),
            (r#"[{"role":"user","content":[{"type":"input_text"}]}]"#, "input[0].content[0].text"),
            (r#"[{"type":"item_reference","id":"msg_1"}]"#, "input[0].type"),
            (r#"[{"type":"function_call","call_id":"a","name":"b"}]"#, "input[0].arguments"),
            (r#"[{"type":"function_call","call_id":"a","name":"b","arguments":{}}]"#, "input[0].arguments"),
            (r#"[{"type":"function_call","name":"b","arguments":"{}"}]"#, "input[0].call_id"),
            (r#"[{"type":"function_call_output","call_id":"a"}]"#, "input[0].output"),
            (r#"[{"type":"custom_tool_call","call_id":"a","name":"b"}]"#, "input[0].input"),
        ] {
            assert_eq!(take(input).unwrap_err().place.as_deref(), Some(place), "{input}");
        }
    }

    #[test]
    fn a_custom_tools_input_is_the_string_in_its_arguments() {
        assert_eq!(custom_input(r#"{"input": "a\nb"}"#), "a\nb");
        assert_eq!(custom_input(r#"{"input": "a\n"#), r#"{"input": "a\n"#);
        assert_eq!(custom_input(r#"{"text": "a"}"#), r#"{"text": "a"}"#);
    }
}
