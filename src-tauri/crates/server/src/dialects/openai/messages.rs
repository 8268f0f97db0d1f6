//! The messages of a chat call: roles, and content as a string or in parts.

use serde_json::value::RawValue;
use text::ChatMessage;

use super::calls::take_calls;
use crate::calls::fault::{Fault, shorten};
use crate::dialects::fields::{Fields, RawList};

/// Take `messages` out of a body.
///
/// # Errors
/// There are none, or one of them is not what a chat template can show; the error names which and where.
pub(crate) fn take_messages(fields: &mut Fields<'_>) -> Result<Vec<ChatMessage>, Fault> {
    let RawList(messages) = fields.take_large("messages")?.ok_or_else(|| Fault::missing("messages"))?;
    if messages.is_empty() {
        return Err(Fault::invalid("messages", "there must be at least one message"));
    }
    messages.iter().enumerate().map(|(i, message)| parse(&format!("messages[{i}]"), message)).collect()
}

fn parse(path: &str, message: &RawValue) -> Result<ChatMessage, Fault> {
    let mut fields = Fields::of_value(path, message)?;
    let role = fields.need::<String>("role")?;
    let role = match role.as_str() {
        // Templates know the role under its older name.
        "developer" => "system".to_owned(),
        "system" | "user" | "assistant" | "tool" => role,
        // The same under its older name.
        "function" => "tool".to_owned(),
        other => {
            let roles = "system, developer, user, assistant or tool";
            let message = format!("'{}' is none of {roles}", shorten(other));
            return Err(Fault::invalid(fields.path("role"), message));
        }
    };

    let tool_calls = match role.as_str() {
        "assistant" => take_calls(&mut fields)?,
        _ => Vec::new(),
    };
    // An answer without text is held as `null` by the official clients, or not at all.
    let content = match take_content(&mut fields)? {
        Some(content) => content,
        None if role == "assistant" => String::new(),
        None => return Err(Fault::missing(fields.path("content"))),
    };
    let mut message = ChatMessage::new(role, content);
    message.name = fields.take("name")?;
    match message.role.as_str() {
        "tool" => message.tool_call_id = fields.take("tool_call_id")?,
        "assistant" => {
            message.tool_calls = tool_calls;
            message.thinking = take_thoughts(&mut fields)?;
        }
        _ => {}
    }
    // A message comes back as the client holds it, with fields of whichever server wrote it, `annotations` or `audio`
    // for example. They say nothing to the model: what is left is passed over.
    Ok(message)
}

/// What a model thought, under the names that servers give it. What is no text says nothing.
fn take_thoughts(fields: &mut Fields<'_>) -> Result<Option<String>, Fault> {
    for name in ["reasoning_content", "reasoning"] {
        if let Some(thoughts) = fields.take_large::<&RawValue>(name)?
            && let Ok(thoughts) = serde_json::from_str::<String>(thoughts.get())
            && !thoughts.is_empty()
        {
            return Ok(Some(thoughts));
        }
    }
    Ok(None)
}

/// The text of a message; none where there is no content.
fn take_content(fields: &mut Fields<'_>) -> Result<Option<String>, Fault> {
    let path = fields.path("content");
    let Some(content) = fields.take_large::<&RawValue>("content")? else { return Ok(None) };
    if content.get().starts_with('"') {
        return serde_json::from_str(content.get())
            .map(Some)
            .map_err(|_| Fault::invalid(path, "the string has an escape that is no character"));
    }
    let Ok(RawList(parts)) = serde_json::from_str::<RawList<'_>>(content.get()) else {
        return Err(Fault::invalid(path, "expected a string or a list of parts"));
    };
    let texts = parts.iter().enumerate().map(|(i, part)| text_of_part(&format!("{path}[{i}]"), part));
    // Parts are paragraphs: the servers that templates are tried on join them like this.
    Ok(Some(texts.collect::<Result<Vec<_>, _>>()?.join("\n")))
}

fn text_of_part(path: &str, part: &RawValue) -> Result<String, Fault> {
    let mut fields = Fields::of_value(path, part)?;
    match fields.need::<String>("type")?.as_str() {
        // Other fields are notes to other servers, `cache_control` for example.
        "text" => fields.take_large("text")?.ok_or_else(|| Fault::missing(fields.path("text"))),
        other => {
            let message = format!("content of type '{}' is not supported; use 'text'", shorten(other));
            Err(Fault::unsupported(fields.path("type"), message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::status;
    use super::*;

    fn take(messages: &str) -> Result<Vec<ChatMessage>, Fault> {
        let body = format!(r#"{{"messages":{messages}}}"#);
        let mut fields = Fields::of_body(body.as_bytes())?;
        take_messages(&mut fields)
    }

    /// `role: content` a line.
    fn show(messages: &str) -> String {
        let messages = take(messages).unwrap();
        messages.iter().map(|m| format!("{}: {}", m.role, m.content)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn content_is_a_string_or_parts_of_text() {
        assert_eq!(show(r#"[{"role":"user","content":"a\nb"}]"#), "user: a\nb");
        assert_eq!(
            show(r#"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]"#),
            "user: a\nb"
        );
        assert_eq!(show(r#"[{"role":"user","content":[]}]"#), "user: ");
    }

    #[test]
    fn developer_is_system_and_tool_results_keep_their_id() {
        assert_eq!(show(r#"[{"role":"developer","content":"be brief"}]"#), "system: be brief");
        let messages = take(r#"[{"role":"tool","content":"42","tool_call_id":"c1"}]"#).unwrap();
        assert_eq!(messages[0].tool_call_id.as_deref(), Some("c1"));
        let named = take(r#"[{"role":"user","content":"hi","name":"Ann"}]"#).unwrap();
        assert_eq!(named[0].name.as_deref(), Some("Ann"));
    }

    #[test]
    fn an_assistants_message_comes_back_as_the_official_client_holds_it() {
        let message = r#"[{"role":"assistant","content":"hi","refusal":null,"annotations":[],"audio":null,
            "function_call":null,"tool_calls":null}]"#;
        assert_eq!(show(message), "assistant: hi");
    }

    #[test]
    fn calls_and_thoughts_come_back_with_the_answer_that_they_are_of() {
        let messages = take(
            r#"[{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[
                {"id":"c1","type":"function","function":{"name":"f","arguments":"{\"b\":1,  \"a\": 2}"}},
                {"id":"c2","function":{"name":"g","arguments":{"x": [1]}}}]},
            {"role":"tool","tool_call_id":"c1","content":"1"},
            {"role":"assistant","function_call":{"name":"h","arguments":""},"reasoning":{"x":1}},
            {"role":"function","name":"h","content":"2"}]"#,
        );
        let messages = messages.unwrap();
        let call = |id: &str, name: &str, arguments: &str| text::ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
        };
        let calls = [call("c1", "f", r#"{"b":1,  "a": 2}"#), call("c2", "g", r#"{"x": [1]}"#)];
        assert_eq!(messages[0].tool_calls, calls);
        assert_eq!((messages[0].content.as_str(), messages[0].thinking.as_deref()), ("", Some("hm")));
        assert_eq!(messages[1].tool_call_id.as_deref(), Some("c1"));
        assert_eq!(messages[2].tool_calls, [call("", "h", "")]);
        assert_eq!(messages[2].thinking, None);
        assert_eq!((messages[3].role.as_str(), messages[3].name.as_deref()), ("tool", Some("h")));
    }

    #[test]
    fn an_answer_without_text_is_empty() {
        for message in [
            r#"[{"role":"assistant","content":null}]"#,
            r#"[{"role":"assistant"}]"#,
            r#"[{"role":"assistant","content":null,"tool_calls":[ ],"refusal":"no"}]"#,
            r#"[{"role":"assistant","content":""}]"#,
            r#"[{"role":"assistant","content":[ ]}]"#,
        ] {
            assert_eq!(show(message), "assistant: ", "{message}");
        }
    }

    #[test]
    fn fields_of_other_servers_in_a_message_are_passed_over() {
        let foreign = format!(
            r#"[{{"role":"assistant","content":[{{"type":"text","text":"hi","cache_control":{{"type":"ephemeral"}}}}],
            "reasoning_content":"{}","reasoning":null,"annotations":[{{"type":"url_citation"}}],
            "audio":{{"id":"a"}},"refusal":"","tool_calls":[],"id":"m1","tool_call_id":7}},
            {{"role":"user","content":"x","mood":1}}]"#,
            "h".repeat(100_000)
        );
        assert_eq!(show(&foreign), "assistant: hi\nuser: x");
    }

    #[test]
    fn what_cannot_be_shown_to_the_model_is_refused_where_it_stands() {
        for (messages, param) in [
            ("[]", "messages"),
            ("null", "messages"),
            ("{}", "messages"),
            ("[7]", "messages[0]"),
            ("[{}]", "messages[0].role"),
            (r#"[{"role":"user"}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":null}]"#, "messages[0].content"),
            (r#"[{"role":"tool","content":null,"tool_call_id":"c"}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":7}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":"\ud800"}]"#, "messages[0].content"),
            (r#"[{"role":"owner","content":"x"}]"#, "messages[0].role"),
            (
                r#"[{"role":"assistant","content":"","tool_calls":[{"id":"c"}]}]"#,
                "messages[0].tool_calls[0].function",
            ),
            (r#"[{"role":"assistant","content":"","tool_calls":{}}]"#, "messages[0].tool_calls"),
            (
                r#"[{"role":"assistant","tool_calls":[{"id":"c","type":"custom"}]}]"#,
                "messages[0].tool_calls[0].type",
            ),
            (r#"[{"role":"assistant","content":"","function_call":{}}]"#, "messages[0].function_call.name"),
            (r#"[{"role":"user","content":"x","content":"y"}]"#, "messages[0]"),
            (r#"[{"role":"tool","content":"x","tool_call_id":7}]"#, "messages[0].tool_call_id"),
            (
                r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]"#,
                "messages[0].content[0].type",
            ),
            (r#"[{"role":"user","content":[{"type":"text"}]}]"#, "messages[0].content[0].text"),
        ] {
            let error = take(messages).unwrap_err();
            assert_eq!(
                (status(error.kind).as_u16(), error.place.as_deref()),
                (400, Some(param)),
                "{messages}"
            );
        }
    }
}
