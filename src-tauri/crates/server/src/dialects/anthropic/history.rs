//! A conversation in Anthropic's words as messages that a chat template can show.

use serde_json::value::RawValue;
use text::ChatMessage;

use super::blocks::{Block, BlockReader};
use crate::calls::fault::{Fault, shorten};
use crate::calls::signing_key::SigningKey;
use crate::dialects::fields::{Fields, RawList};
use crate::dialects::remarks::Remarks;

/// A conversation, and what was noticed of it.
#[derive(Debug, PartialEq)]
pub(crate) struct History {
    pub(crate) messages: Vec<ChatMessage>,
    /// Whether the last message is the beginning of the answer.
    pub(crate) continue_final: bool,
    pub(crate) remarks: Remarks,
}

/// Take `system` and `messages` out of a body.
///
/// # Errors
/// There are no messages, or one of them is not what a chat template can show; the error names which and where.
pub(crate) fn take_history(fields: &mut Fields<'_>, key: SigningKey) -> Result<History, Fault> {
    let mut reader = BlockReader::new(key);
    let mut messages = Vec::new();
    if let Some(system) = fields.take_large::<&RawValue>("system")? {
        let text = reader.text("system", system)?;
        if !text.is_empty() {
            messages.push(ChatMessage::new("system", text));
        }
    }
    let RawList(given) = fields.take_large("messages")?.ok_or_else(|| Fault::missing("messages"))?;
    if given.is_empty() {
        return Err(Fault::invalid("messages", "there must be at least one message"));
    }
    for (i, message) in given.iter().enumerate() {
        read_message(&mut reader, &format!("messages.{i}"), message, &mut messages)?;
    }
    let last = messages.last();
    // One that says nothing has no beginning to go on with.
    let continue_final =
        last.is_some_and(|message| message.role == "assistant" && !message.content.is_empty());
    if last.is_some_and(|message| !message.tool_calls.is_empty()) {
        let message = "the last message has tool_use blocks, and no message has their results";
        return Err(Fault::invalid(format!("messages.{}", given.len() - 1), message));
    }
    Ok(History { messages, continue_final, remarks: reader.remarks })
}

fn read_message(
    reader: &mut BlockReader,
    path: &str,
    message: &RawValue,
    messages: &mut Vec<ChatMessage>,
) -> Result<(), Fault> {
    let mut fields = Fields::of_value(path, message)?;
    let role = fields.need::<String>("role")?;
    let content_path = fields.path("content");
    let Some(content) = fields.take_large::<&RawValue>("content")? else {
        return Err(Fault::missing(content_path));
    };
    match role.as_str() {
        "user" => user(reader.blocks(&content_path, content)?, &content_path, messages),
        "assistant" => assistant(reader.blocks(&content_path, content)?, &content_path, messages),
        // In the middle it stays where it is: at the front it would be another prefix.
        "system" => {
            say(messages, "system", reader.text(&content_path, content)?);
            Ok(())
        }
        other => {
            let message = format!("'{}' is none of user, assistant or system", shorten(other));
            Err(Fault::invalid(fields.path("role"), message))
        }
    }
}

/// Results of calls first, each a message of its own, then what the user says.
fn user(blocks: Vec<Block>, path: &str, messages: &mut Vec<ChatMessage>) -> Result<(), Fault> {
    let mut texts = Vec::new();
    let mut has_results = false;
    for (i, block) in blocks.into_iter().enumerate() {
        match block {
            Block::Text(text) => texts.push(text),
            Block::ToolResult { id, text } => {
                has_results = true;
                let mut result = ChatMessage::new("tool", text);
                result.tool_call_id = Some(id);
                messages.push(result);
            }
            Block::LeftOut => {}
            Block::Thinking(_) | Block::ToolUse(_) => return Err(misplaced(path, i, "an assistant's")),
        }
    }
    if !has_results || !texts.is_empty() {
        say(messages, "user", texts.join("\n"));
    }
    Ok(())
}

fn assistant(blocks: Vec<Block>, path: &str, messages: &mut Vec<ChatMessage>) -> Result<(), Fault> {
    let (mut texts, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for (i, block) in blocks.into_iter().enumerate() {
        match block {
            Block::Text(text) => texts.push(text),
            Block::Thinking(text) => thoughts.push(text),
            Block::ToolUse(call) => calls.push(call),
            Block::LeftOut => {}
            Block::ToolResult { .. } => return Err(misplaced(path, i, "a user's")),
        }
    }
    say(messages, "assistant", texts.join("\n"));
    if let Some(message) = messages.last_mut() {
        if !thoughts.is_empty() {
            let before = message.thinking.take();
            message.thinking = Some(before.into_iter().chain(thoughts).collect::<Vec<_>>().join("\n"));
        }
        message.tool_calls.extend(calls);
    }
    Ok(())
}

fn misplaced(path: &str, i: usize, whose: &str) -> Fault {
    Fault::invalid(format!("{path}.{i}.type"), format!("blocks of this type stand in {whose} message"))
}

/// Neighbours of one role are one message.
fn say(messages: &mut Vec<ChatMessage>, role: &str, text: String) {
    match messages.last_mut() {
        // What follows a call's result is another answer.
        Some(before) if before.role == role => {
            if !before.content.is_empty() && !text.is_empty() {
                before.content.push('\n');
            }
            before.content.push_str(&text);
        }
        _ => messages.push(ChatMessage::new(role, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::new([7; 32])
    }

    fn take(body: &str) -> Result<History, Fault> {
        let mut fields = Fields::of_body(body.as_bytes())?;
        take_history(&mut fields, key())
    }

    fn messages(messages: &str) -> Result<History, Fault> {
        take(&format!(r#"{{"messages":{messages}}}"#))
    }

    /// A message a line: role, thinking in round brackets, content, calls in square ones; the id of a result.
    fn show(history: &History) -> String {
        let line = |message: &ChatMessage| {
            let mut line = message.role.clone();
            if let Some(id) = &message.tool_call_id {
                line += &format!(" {id}");
            }
            line += ":";
            if let Some(thinking) = &message.thinking {
                line += &format!(" ({thinking})");
            }
            line += &format!(" {}", message.content.replace('\n', "/"));
            for call in &message.tool_calls {
                line += &format!(" [{} {}{}]", call.id, call.name, call.arguments);
            }
            line
        };
        history.messages.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn system_and_content_are_strings_or_blocks() {
        let history = take(
            r#"{"system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},
                {"type":"text","text":"b"}],
                "messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"text","text":"ho"}]},
                {"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]}]}"#,
        );
        assert_eq!(show(&history.unwrap()), "system: a/b\nuser: hi\nassistant: ho\nuser: c/d");
        let plain = take(r#"{"system":"s","messages":[{"role":"user","content":"hi"}]}"#).unwrap();
        assert_eq!(show(&plain), "system: s\nuser: hi");
        let none = take(r#"{"system":[],"messages":[{"role":"user","content":[]}]}"#).unwrap();
        assert_eq!(show(&none), "user: ");
    }

    #[test]
    fn a_round_of_tools_is_calls_results_and_what_the_user_adds() {
        let history = messages(
            r#"[{"role":"user","content":"weather?"},
            {"role":"assistant","content":[{"type":"text","text":"let me see"},
              {"type":"tool_use","id":"t1","name":"w","input":{"b": 1, "a":[2]}},
              {"type":"tool_use","id":"t2","name":"x","input":{}}]},
            {"role":"user","content":[{"type":"text","text":"and hurry"},
              {"type":"tool_result","tool_use_id":"t1","content":"sun"},
              {"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"no"},{"type":"text","text":"such"}],"is_error":true},
              {"type":"tool_result","tool_use_id":"t3"}]}]"#,
        );
        let want = "\
user: weather?
assistant: let me see [t1 w{\"b\": 1, \"a\":[2]}] [t2 x{}]
tool t1: sun
tool t2: Error: no/such
tool t3: 
user: and hurry";
        assert_eq!(show(&history.unwrap()), want);
    }

    #[test]
    fn an_error_that_says_it_is_one_is_left_as_it_is() {
        let result = |text: &str| {
            let block =
                format!(r#"{{"type":"tool_result","tool_use_id":"t","content":"{text}","is_error":true}}"#);
            messages(&format!(r#"[{{"role":"user","content":[{block}]}}]"#)).unwrap().messages[0]
                .content
                .clone()
        };
        assert_eq!(result("ERROR: gone"), "ERROR: gone");
        assert_eq!(result("<tool_use_error>gone</tool_use_error>"), "<tool_use_error>gone</tool_use_error>");
        assert_eq!(result("gone"), "Error: gone");
        assert_eq!(result("é"), "Error: é");
    }

    #[test]
    fn neighbours_of_one_role_are_one_message_and_a_system_message_stays_in_its_place() {
        let history = messages(
            r#"[{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"system","content":"now"},
            {"role":"assistant","content":"c"},{"role":"assistant","content":"d"},{"role":"user","content":"e"}]"#,
        );
        assert_eq!(show(&history.unwrap()), "user: a/b\nsystem: now\nassistant: c/d\nuser: e");
    }

    #[test]
    fn a_last_message_of_the_assistant_is_gone_on_with() {
        let history =
            messages(r#"[{"role":"user","content":"a"},{"role":"assistant","content":"{"}]"#).unwrap();
        assert!(history.continue_final);
        assert!(!messages(r#"[{"role":"user","content":"a"}]"#).unwrap().continue_final);
        let nothing = r#"[{"role":"user","content":"a"},{"role":"assistant","content":""}]"#;
        assert!(!messages(nothing).unwrap().continue_final);
        let calls =
            r#"[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"w","input":{}}]}]"#;
        assert_eq!(messages(calls).unwrap_err().place.as_deref(), Some("messages.0"));
    }

    #[test]
    fn thinking_comes_back_when_it_was_this_servers_and_other_thinking_is_left_out() {
        let with = |thinking: &str, signature: &str| {
            messages(&format!(
                r#"[{{"role":"assistant","content":[{{"type":"thinking","thinking":"{thinking}","signature":"{signature}"}},
                {{"type":"redacted_thinking","data":"xx"}},{{"type":"text","text":"4"}}]}},{{"role":"user","content":"why"}}]"#
            ))
            .unwrap()
        };
        let signature = key().sign("2+2");
        let own = with("2+2", &signature);
        assert_eq!(show(&own), "assistant: (2+2) 4\nuser: why");
        let changed = with("2+3", &signature);
        assert_eq!(show(&changed), "assistant: 4\nuser: why");
        let remarks = changed.remarks.into_vec();
        assert_eq!(remarks.len(), 2, "{remarks:?}");
        assert!(remarks[0].contains("signature") && remarks[1].contains("redacted_thinking"), "{remarks:?}");
    }

    #[test]
    fn documents_and_search_results_are_shown_as_their_text() {
        let history = messages(
            r#"[{"role":"user","content":[
            {"type":"document","title":"T","source":{"type":"text","media_type":"text/plain","data":"d"}},
            {"type":"document","source":{"type":"content","content":[{"type":"text","text":"e"}]}},
            {"type":"search_result","source":"https://a.example","title":"A","content":[{"type":"text","text":"f"}]}]}]"#,
        );
        assert_eq!(show(&history.unwrap()), "user: T/d/e/A/https://a.example/f");
    }

    #[test]
    fn content_within_content_is_bounded() {
        let deep = |n: usize| {
            let open = r#"{"type":"tool_result","tool_use_id":"a","content":["#.repeat(n);
            messages(&format!(r#"[{{"role":"user","content":[{open}{}]}}]"#, "]}".repeat(n)))
        };
        assert!(deep(1).is_ok());
        let fault = deep(100_000).unwrap_err();
        assert_eq!(fault.message, "nested deeper than 4");
    }

    #[test]
    fn what_cannot_be_shown_to_the_model_is_refused_where_it_stands() {
        for (given, place) in [
            ("[]", "messages"),
            ("null", "messages"),
            ("[7]", "messages.0"),
            ("[{}]", "messages.0.role"),
            (r#"[{"role":"user"}]"#, "messages.0.content"),
            (r#"[{"role":"user","content":7}]"#, "messages.0.content"),
            (r#"[{"role":"user","content":"\ud800"}]"#, "messages.0.content"),
            (r#"[{"role":"tool","content":"x"}]"#, "messages.0.role"),
            (r#"[{"role":"user","content":[{"type":"text"}]}]"#, "messages.0.content.0.text"),
            (r#"[{"role":"user","content":[{"type":"image","source":{}}]}]"#, "messages.0.content.0.type"),
            (
                r#"[{"role":"user","content":[{"type":"tool_use","id":"a","name":"b","input":{}}]}]"#,
                "messages.0.content.0.type",
            ),
            (
                r#"[{"role":"assistant","content":[{"type":"tool_result","tool_use_id":"a"}]}]"#,
                "messages.0.content.0.type",
            ),
            (
                r#"[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"b","input":"{}"}]}]"#,
                "messages.0.content.0.input",
            ),
            (
                r#"[{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"image"}]}]}]"#,
                "messages.0.content.0.content.0.type",
            ),
            (
                r#"[{"role":"user","content":[{"type":"document","source":{"type":"base64","data":""}}]}]"#,
                "messages.0.content.0.source.type",
            ),
            (r#"[{"role":"system","content":[{"type":"thinking","thinking":"x"}]}]"#, "-"),
        ] {
            match messages(given) {
                Err(fault) => assert_eq!(fault.place.as_deref(), Some(place), "{given}"),
                Ok(history) => assert_eq!((place, history.remarks.into_vec().len()), ("-", 1), "{given}"),
            }
        }
    }
}
