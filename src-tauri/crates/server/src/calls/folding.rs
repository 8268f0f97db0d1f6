//! A chat in the form that the strictest templates take: one system message, at the front, and turns that alternate.
//!
//! Some templates refuse a system message in the middle or two messages of one role in a row, and others drop them
//! without a word; clients send both.

use text::{Chat, ChatMessage};

/// The chat with later system messages put into the user's turns and neighbours of one role made one; nothing where it
/// has that form already.
pub(crate) fn folded(chat: &Chat) -> Option<Chat> {
    let mut messages: Vec<ChatMessage> = Vec::new();
    for (i, message) in chat.messages.iter().enumerate() {
        let message = match message.role.as_str() {
            "system" if i > 0 => ChatMessage::new("user", reminder(&message.content)),
            _ => message.clone(),
        };
        match messages.last_mut() {
            Some(before) if before.role == message.role && message.role != "tool" => join(before, message),
            _ => messages.push(message),
        }
    }
    (messages != chat.messages).then(|| Chat { messages, ..chat.clone() })
}

/// Whether a rendered chat lacks one of its later system messages.
pub(crate) fn is_dropped(chat: &Chat, rendered: impl FnOnce() -> String) -> bool {
    let mut later = chat.messages.iter().skip(1).filter(|message| message.role == "system").peekable();
    if later.peek().is_none() {
        return false;
    }
    let rendered = rendered();
    later.any(|message| !rendered.contains(message.content.trim()))
}

/// What models know from agents as the words of whoever set them up, though they stand in a user's turn.
fn reminder(text: &str) -> String {
    format!("<system-reminder>\n{text}\n</system-reminder>")
}

fn join(before: &mut ChatMessage, message: ChatMessage) {
    let joined = |one: &mut String, other: String| {
        if !one.is_empty() && !other.is_empty() {
            one.push('\n');
        }
        one.push_str(&other);
    };
    joined(&mut before.content, message.content);
    if let Some(thinking) = message.thinking {
        joined(before.thinking.get_or_insert_default(), thinking);
    }
    before.tool_calls.extend(message.tool_calls);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(messages: &[(&str, &str)]) -> Chat {
        let messages = messages.iter().map(|(role, content)| ChatMessage::new(*role, *content)).collect();
        Chat { messages, add_generation_prompt: true, ..Chat::default() }
    }

    fn show(chat: &Chat) -> String {
        let line =
            |message: &ChatMessage| format!("{}: {}", message.role, message.content.replace('\n', "/"));
        chat.messages.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn later_system_messages_become_reminders_and_neighbours_one_turn() {
        let given = chat(&[
            ("system", "a"),
            ("user", "b"),
            ("system", "c"),
            ("assistant", "d"),
            ("tool", "e"),
            ("tool", "f"),
            ("user", "g"),
            ("user", "h"),
        ]);
        let want = "\
system: a
user: b/<system-reminder>/c/</system-reminder>
assistant: d
tool: e
tool: f
user: g/h";
        let folded = folded(&given).unwrap();
        assert_eq!(show(&folded), want);
        assert!(folded.add_generation_prompt && super::folded(&folded).is_none());
    }

    #[test]
    fn a_template_that_leaves_out_a_later_system_message_is_found_out() {
        let given = chat(&[("system", "first"), ("user", "b"), ("system", " second ")]);
        assert!(is_dropped(&given, || "first b".to_owned()));
        assert!(!is_dropped(&given, || "b second".to_owned()));
        assert!(!is_dropped(&chat(&[("system", "first"), ("user", "b")]), || panic!("nobody asks")));
    }
}
