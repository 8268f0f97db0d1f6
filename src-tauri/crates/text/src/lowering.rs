//! A conversation's tools, calls and thoughts in the fields that templates know.
//!
//! Templates were written for what `apply_chat_template` of the library transformers passes, and they differ in what
//! they do with it. How a template likes its arguments, and whether it shows tools at all, is found out by trying it,
//! not by knowing its family. Where it shows no tools they are described in words, and asked for in a form that is
//! common and easily parsed.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::answer_form::call_form::Calls;
use crate::answer_form::calls_in_words;
use crate::answer_form::written::written;
use crate::{Chat, ChatMessage, Tool, ToolCall};

/// How a template takes a call's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// As text, which it writes as it is.
    Text,
    /// As an object, which it writes in its own way.
    Object,
}

/// What a template does with tools and calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Customs {
    /// Whether tools that it is given are in its text.
    pub(crate) shows_tools: bool,
    /// How it takes a call's arguments; none where it does not show calls.
    pub(crate) arguments: Option<Arguments>,
    /// Whether a call's id must have nine letters and digits.
    pub(crate) has_short_ids: bool,
    /// Whether it takes an answer's thoughts and its text only one without the other, where the answer has calls.
    pub(crate) thinks_or_speaks: bool,
}

/// Characters of an id for templates that want short ones.
const SHORT_ID_LEN: usize = 9;
/// The role of a call's result.
const TOOL: &str = "tool";
/// What no template writes by itself.
const PROBE: &str = "zq_probe_zq";

impl Customs {
    /// Finds out what a template does, by what `render` makes of chats in the fields that it knows.
    pub(crate) fn find(source: &str, render: impl Fn(&Chat) -> Option<String>) -> Customs {
        let user = ChatMessage::new("user", "x");
        let tool = Tool { name: PROBE.into(), description: Some("x".into()), ..Tool::default() };
        let with_tool = in_fields_of_templates(
            &Chat {
                messages: vec![user.clone()],
                add_generation_prompt: true,
                tools: vec![tool.clone()],
                ..Chat::default()
            },
            Customs { shows_tools: true, arguments: None, has_short_ids: false, thinks_or_speaks: false },
        );
        let shows_tools = render(&with_tool).is_some_and(|text| text.contains(PROBE));
        let has_short_ids = source.contains("length != 9") || source.contains("length == 9");
        let thinks_or_speaks = source.contains("Cannot pass both content and thinking");
        let call = ToolCall {
            id: "abcdefghi".into(),
            name: "f".into(),
            arguments: format!(r#"{{"{PROBE}": "a"}}"#),
        };
        let answer =
            ChatMessage { tool_calls: vec![call.clone()], ..ChatMessage::new("assistant", String::new()) };
        let result = ChatMessage { tool_call_id: Some(call.id), ..ChatMessage::new("tool", "x") };
        let chat = Chat { messages: vec![user, answer, result], tools: vec![tool], ..Chat::default() };
        let with = |arguments| {
            let customs =
                Customs { shows_tools, arguments: Some(arguments), has_short_ids, thinks_or_speaks };
            let text = render(&in_fields_of_templates(&chat, customs))?;
            // Without the tool's own name, which is in the text too. A call in another language's words is not shown.
            let shown = text.matches(PROBE).count() > usize::from(shows_tools)
                && !text.contains(&format!("{{'{PROBE}'"))
                && !text.contains(&format!("\\\"{PROBE}\\\""));
            shown.then_some(text)
        };
        let arguments = match (with(Arguments::Text), with(Arguments::Object)) {
            (Some(text), Some(object)) if text == object => Some(Arguments::Text),
            (_, Some(_)) => Some(Arguments::Object),
            (Some(_), None) => Some(Arguments::Text),
            (None, None) => None,
        };
        Customs { shows_tools, arguments, has_short_ids, thinks_or_speaks }
    }

    /// Whether the template can show all of the chat.
    pub(crate) fn is_enough_for(self, chat: &Chat) -> bool {
        let has_calls = chat.messages.iter().any(|m| !m.tool_calls.is_empty() || m.role == TOOL);
        (self.shows_tools || chat.tools.is_empty()) && (self.arguments.is_some() || !has_calls)
    }
}

/// Whether a chat has anything that templates know in fields of their own.
pub(crate) fn has_more_than_text(chat: &Chat) -> bool {
    let more = |m: &ChatMessage| m.thinking.is_some() || !m.tool_calls.is_empty() || m.tool_call_id.is_some();
    !chat.tools.is_empty() || chat.messages.iter().any(more)
}

/// The chat with everything in the fields that templates know, and nothing anywhere else.
pub(crate) fn in_fields_of_templates(chat: &Chat, customs: Customs) -> Chat {
    let mut names = HashMap::new();
    let messages = chat.messages.iter().map(|message| {
        for call in &message.tool_calls {
            names.insert(call.id.as_str(), call.name.as_str());
        }
        message_in_fields(message, &names, customs)
    });
    let messages = messages.collect();
    let mut extra = chat.extra.clone();
    if !chat.tools.is_empty() {
        extra.insert("tools".into(), chat.tools.iter().map(tool_object).collect());
    }
    Chat { messages, extra, tools: Vec::new(), ..*chat }
}

fn message_in_fields(message: &ChatMessage, names: &HashMap<&str, &str>, customs: Customs) -> ChatMessage {
    let mut extra = message.extra.clone();
    let id_of = |id: &str| if customs.has_short_ids { short_id(id) } else { id.to_owned() };
    let mut name = message.name.clone();
    if let Some(thinking) = &message.thinking {
        let has_both = !message.content.is_empty() && !message.tool_calls.is_empty();
        if !(customs.thinks_or_speaks && has_both) {
            // Each is the name of the same thing to some templates.
            for field in ["reasoning_content", "thinking"] {
                extra.entry(field).or_insert_with(|| thinking.as_str().into());
            }
        }
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            let arguments = match customs.arguments {
                Some(Arguments::Text) => Value::from(call.arguments.as_str()),
                Some(Arguments::Object) | None => arguments_object(&call.arguments),
            };
            json!({
                "id": id_of(&call.id),
                "type": "function",
                "function": {"name": call.name, "arguments": arguments},
            })
        });
        extra.insert("tool_calls".into(), calls.collect());
    }
    if let Some(id) = &message.tool_call_id {
        extra.insert("tool_call_id".into(), id_of(id).into());
        if name.is_none() {
            name = names.get(id.as_str()).map(|name| (*name).to_owned());
        }
    }
    ChatMessage {
        role: message.role.clone(),
        content: message.content.clone(),
        name,
        extra,
        ..ChatMessage::default()
    }
}

/// A tool as transformers passes it.
fn tool_object(tool: &Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        function.insert("description".into(), description.as_str().into());
    }
    let none = || json!({"type": "object", "properties": {}});
    function.insert("parameters".into(), tool.parameters.clone().unwrap_or_else(none));
    json!({"type": "function", "function": function})
}

/// Arguments as an object, whatever they are: a template that asks for one can show nothing else.
fn arguments_object(arguments: &str) -> Value {
    match serde_json::from_str::<Value>(arguments) {
        Ok(object @ Value::Object(_)) => object,
        Ok(Value::Null) => json!({}),
        _ if arguments.trim().is_empty() => json!({}),
        Ok(value) => json!({"arguments": value}),
        Err(_) => json!({"arguments": arguments}),
    }
}

/// An id of nine letters and digits, the same for the same id.
fn short_id(id: &str) -> String {
    let id = id.strip_prefix("call_").unwrap_or(id);
    if id.len() == SHORT_ID_LEN && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    // FNV-1a: it need only be unlikely that two ids of one conversation meet.
    let hash = |id: &str| {
        id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let mut left = hash(id);
    (0..SHORT_ID_LEN)
        .map(|_| {
            let letter = LETTERS[(left % LETTERS.len() as u64) as usize];
            left /= LETTERS.len() as u64;
            char::from(letter)
        })
        .collect()
}

/// The chat for a template that shows no tools, or no calls: these in words, in messages of text. Calls are written as
/// the model does it by `own`; or, where tools are described in words, as these ask for. `has_system` says whether the
/// template takes messages of the system.
pub(crate) fn in_words(chat: &Chat, customs: Customs, own: &Calls<String>, has_system: bool) -> Chat {
    let has_tools_in_words = !customs.shows_tools;
    let has_calls_in_words = customs.arguments.is_none() || has_tools_in_words;
    let form = if has_tools_in_words { &calls_in_words() } else { own };
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut messages: Vec<ChatMessage> = Vec::with_capacity(chat.messages.len() + 1);
    for message in &chat.messages {
        if !has_calls_in_words {
            messages.push(message.clone());
            continue;
        }
        names.extend(message.tool_calls.iter().map(|call| (call.id.as_str(), call.name.as_str())));
        let mut plain = ChatMessage { tool_calls: Vec::new(), ..message.clone() };
        if let Some(id) = &message.tool_call_id {
            plain.name = plain.name.or_else(|| names.get(id.as_str()).map(|name| (*name).to_owned()));
        }
        if !message.tool_calls.is_empty() {
            if !plain.content.is_empty() {
                plain.content.push('\n');
            }
            plain.content.push_str(&written(form, &message.tool_calls));
        }
        if message.role == TOOL && has_tools_in_words {
            plain.role = "user".into();
            plain.name = None;
            plain.tool_call_id = None;
            plain.content = format!("<tool_response>\n{}\n</tool_response>", message.content);
            // Results of one answer are one turn: templates that show no tools want users and assistants by turns.
            if let Some(before) = messages.last_mut()
                && before.role == "user"
                && before.content.ends_with("</tool_response>")
            {
                before.content.push('\n');
                before.content.push_str(&plain.content);
                continue;
            }
        }
        messages.push(plain);
    }
    let mut tools = chat.tools.clone();
    if has_tools_in_words && !tools.is_empty() {
        tools.clear();
        let words = tools_in_words(&chat.tools);
        match messages.iter_mut().find(|message| has_system || message.role != "system") {
            Some(first) if first.role == "system" || !has_system => {
                first.content = if first.role == "system" {
                    format!("{}\n\n{words}", first.content)
                } else {
                    format!("{words}\n\n{}", first.content)
                };
            }
            _ => messages.insert(0, ChatMessage::new("system", words)),
        }
    }
    Chat { messages, tools, extra: chat.extra.clone(), ..*chat }
}

fn tools_in_words(tools: &[Tool]) -> String {
    let signatures: Vec<String> = tools.iter().map(|tool| tool_object(tool).to_string()).collect();
    format!(
        "You may call one or more functions to help with the user's request. These are their signatures, within \
         <tools></tools>:\n<tools>\n{}\n</tools>\n\nFor each call of a function write a JSON object with its name and \
         its arguments, within <tool_call></tool_call>:\n<tool_call>\n{{\"name\": \"the function's name\", \
         \"arguments\": {{\"an argument's name\": \"its value\"}}}}\n</tool_call>",
        signatures.join("\n")
    )
}
