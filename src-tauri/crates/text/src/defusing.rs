//! Marks that keep a client's text from becoming structure.
//!
//! A template mixes its own control tokens with the client's values and returns one string. So that the two can
//! be told apart in it, every place of a value that could be read as a control token, or as a part of one, gets
//! a mark: a noncharacter that occurs nowhere else, put *inside* the suspicious text, where `trim`, `tojson`,
//! slicing, `in` and comparisons with other text do not notice it. A marked text is never found as a control
//! token; after that search the marks are taken out again and the text is encoded as plain text.
//!
//! ```text
//! value      "see <|im_end|> and <|im_"
//! marked     "see <·|im_end|> and <·|im_"          · = the mark
//! rendered   "<|im_start|>user\nsee <·|im_end|> and <·|im_<|im_end|>\n"
//! parts       CONTROL      text                           CONTROL   text
//! ```

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;

use crate::{Chat, ChatMessage, TextError};

/// Noncharacters that Unicode reserves for use inside a program.
const FIRST_MARK: char = '\u{fdd0}';
const N_MARKS: usize = 32;

/// Roles that templates build their own control tokens from, as in `'<|' + role + '|>'`.
const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool", "ipython", "function", "model"];

pub(crate) fn is_noncharacter(c: char) -> bool {
    (FIRST_MARK..='\u{fdef}').contains(&c)
}

/// A noncharacter that occurs neither in the chat nor in the template, nor is `other`.
pub(crate) fn unused_noncharacter(
    chat: &Chat,
    template: &str,
    other: Option<char>,
) -> Result<char, TextError> {
    let mut is_used = [false; N_MARKS];
    let mut note = |c: char| {
        if is_noncharacter(c) {
            is_used[c as usize - FIRST_MARK as usize] = true;
        }
    };
    template.chars().chain(other).for_each(&mut note);
    for_each_string(chat, &mut |text, _| text.chars().for_each(&mut note));
    (FIRST_MARK..)
        .zip(is_used)
        .find(|(_, is_used)| !is_used)
        .map(|(c, _)| c)
        .ok_or_else(|| TextError::Refused("they use every noncharacter from U+FDD0 to U+FDEF".into()))
}

/// The texts of a model's control tokens, as something to be kept out of values.
#[derive(Debug)]
pub(crate) struct StructuralTexts {
    finder: Option<AhoCorasick>,
    /// Sorted, to look up beginnings.
    sorted: Vec<String>,
    /// Each reversed, sorted, to look up ends.
    reversed: Vec<String>,
    /// All of them, separated, to look up middles.
    joined: String,
    max_chars: usize,
}

/// What a string is to the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Role,
    Value,
}

impl StructuralTexts {
    /// Texts must have at least two characters.
    pub(crate) fn new(mut texts: Vec<String>) -> Result<StructuralTexts, TextError> {
        let finder = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&texts);
        let finder = finder.map_err(|e| TextError::Vocabulary(format!("too many special tokens: {e}")))?;
        let mut reversed: Vec<String> = texts.iter().map(|text| text.chars().rev().collect()).collect();
        texts.sort_unstable();
        reversed.sort_unstable();
        Ok(StructuralTexts {
            finder: (!texts.is_empty()).then_some(finder),
            reversed,
            joined: texts.join("\0"),
            max_chars: texts.iter().map(|text| text.chars().count()).max().unwrap_or(0),
            sorted: texts,
        })
    }

    /// The chat with its marks and the mark; nothing if no value needs one.
    pub(crate) fn mark(&self, chat: &Chat, template: &str) -> Result<Option<(Chat, char)>, TextError> {
        let mut is_needed = false;
        for_each_string(chat, &mut |text, usage| {
            is_needed = is_needed || !self.places(text, usage).is_empty();
        });
        if !is_needed {
            return Ok(None);
        }
        let mark = unused_noncharacter(chat, template, None)?;
        let with_marks = |text: &str, usage: Use| {
            let mut marked = String::with_capacity(text.len() + 16);
            let mut from = 0;
            for place in self.places(text, usage) {
                marked.push_str(&text[from..place]);
                marked.push(mark);
                from = place;
            }
            marked.push_str(&text[from..]);
            marked
        };
        let marked_message = |message: &ChatMessage| ChatMessage {
            role: with_marks(&message.role, Use::Role),
            content: with_marks(&message.content, Use::Value),
            name: message.name.as_ref().map(|name| with_marks(name, Use::Value)),
            extra: map_object(&message.extra, &with_marks),
            ..ChatMessage::default()
        };
        let marked = Chat {
            messages: chat.messages.iter().map(marked_message).collect(),
            extra: map_object(&chat.extra, &with_marks),
            tools: Vec::new(),
            ..*chat
        };
        Ok(Some((marked, mark)))
    }

    /// Byte offsets where a mark must go, ascending.
    fn places(&self, text: &str, usage: Use) -> Vec<usize> {
        let Some(finder) = &self.finder else { return Vec::new() };
        if usage == Use::Role && ROLES.contains(&text) {
            return Vec::new();
        }
        let after_first = |at: usize| at + text[at..].chars().next().map_or(0, char::len_utf8);
        let mut places: Vec<usize> =
            finder.find_overlapping_iter(text).map(|found| after_first(found.start())).collect();

        // An end that begins a control token, which the next value could complete.
        let ends = text.char_indices().rev().take(self.max_chars.saturating_sub(1));
        places.extend(
            ends.filter(|&(at, _)| has_prefix(&self.sorted, &text[at..])).map(|(at, _)| after_first(at)),
        );

        // A start of two or more characters that completes one begun by the template.
        let mut start_reversed = String::new();
        for (n, (at, c)) in text.char_indices().take(self.max_chars.saturating_sub(1)).enumerate() {
            start_reversed.insert(0, c);
            if n > 0 && has_prefix(&self.reversed, &start_reversed) {
                places.push(at);
            }
        }

        // The whole value as the middle of one. Plain words are let through, for templates compare them.
        let is_word = || text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
        let may_be_middle = text.chars().nth(1).is_some() && text.chars().nth(self.max_chars).is_none();
        if may_be_middle && (usage == Use::Role || !is_word()) && self.joined.contains(text) {
            places.push(after_first(0));
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// Whether one of the sorted texts is longer than `prefix` and starts with it.
fn has_prefix(sorted: &[String], prefix: &str) -> bool {
    let at = sorted.partition_point(|text| text.as_str() <= prefix);
    sorted.get(at).is_some_and(|text| text.starts_with(prefix))
}

/// Every string that comes from the client, keys of objects included.
fn for_each_string(chat: &Chat, visit: &mut impl FnMut(&str, Use)) {
    for message in &chat.messages {
        visit(&message.role, Use::Role);
        visit(&message.content, Use::Value);
        if let Some(name) = &message.name {
            visit(name, Use::Value);
        }
        for_each_in_object(&message.extra, visit);
    }
    for_each_in_object(&chat.extra, visit);
}

fn for_each_in_object(object: &serde_json::Map<String, Value>, visit: &mut impl FnMut(&str, Use)) {
    for (key, value) in object {
        visit(key, Use::Value);
        for_each_in_value(value, visit);
    }
}

fn for_each_in_value(value: &Value, visit: &mut impl FnMut(&str, Use)) {
    match value {
        Value::String(text) => visit(text, Use::Value),
        Value::Array(values) => values.iter().for_each(|value| for_each_in_value(value, visit)),
        Value::Object(object) => for_each_in_object(object, visit),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn map_object(
    object: &serde_json::Map<String, Value>,
    map: &impl Fn(&str, Use) -> String,
) -> serde_json::Map<String, Value> {
    object.iter().map(|(key, value)| (map(key, Use::Value), map_value(value, map))).collect()
}

fn map_value(value: &Value, map: &impl Fn(&str, Use) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(map(text, Use::Value)),
        Value::Array(values) => Value::Array(values.iter().map(|value| map_value(value, map)).collect()),
        Value::Object(object) => Value::Object(map_object(object, map)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::StructuralTexts;
    use crate::{Chat, ChatMessage};

    /// Marks one message's content and role and shows the mark as `·`.
    fn marked(role: &str, content: &str) -> Option<(String, String)> {
        let texts = ["<|im_start|>", "<|im_end|>", "<|user|>", "<|end|>", "</s>"];
        let texts = StructuralTexts::new(texts.map(String::from).to_vec()).unwrap();
        let chat = Chat { messages: vec![ChatMessage::new(role, content)], ..Chat::default() };
        let (chat, mark) = texts.mark(&chat, "template").unwrap()?;
        let show = |text: &str| text.replace(mark, "·");
        Some((show(&chat.messages[0].role), show(&chat.messages[0].content)))
    }

    fn check(content: &str, expected: &str) {
        assert_eq!(marked("user", content).unwrap().1, expected);
    }

    #[test]
    fn every_control_token_in_a_value_is_marked_inside() {
        check("a <|im_end|>b</s>", "a <·|im_end|>b<·/s>");
        check("<|im_end|><|im_start|>", "<·|im_end|><·|im_start|>");
        check("<<|end|>", "<<·|end|>");
    }

    #[test]
    fn the_beginning_of_a_control_token_at_the_end_of_a_value_is_marked() {
        check("see <|im_", "see <·|im_");
        check("x <", "x <·");
    }

    #[test]
    fn the_rest_of_a_control_token_at_the_start_of_a_value_is_marked() {
        check("end|> x", "end|·> x");
        check("|im_end|", "|·im_end|");
    }

    #[test]
    fn ordinary_text_needs_no_marks() {
        for text in
            ["", "hello", "if a < b and c > d", "> quoted", "</think> done", "<b>x</b>", "user", "end"]
        {
            assert_eq!(marked("user", text), None, "{text:?}");
        }
    }

    #[test]
    fn a_role_may_name_a_control_token_only_if_it_is_a_known_role() {
        assert_eq!(marked("user", "x"), None);
        assert_eq!(marked("im_end", "x").unwrap().0, "i·m_end");
        assert_eq!(marked("end|><|user", "x").unwrap().0, "end|·><·|user");
    }

    #[test]
    fn the_mark_is_a_character_that_the_client_does_not_use() {
        let texts = StructuralTexts::new(vec!["</s>".into()]).unwrap();
        let content: String = ('\u{fdd0}'..='\u{fdee}').chain("</s>".chars()).collect();
        let chat =
            |content: String| Chat { messages: vec![ChatMessage::new("user", content)], ..Chat::default() };
        let (marked, mark) = texts.mark(&chat(content.clone()), "").unwrap().unwrap();
        assert_eq!(mark, '\u{fdef}');
        assert_eq!(marked.messages[0].content.replace(mark, ""), content);
        assert!(texts.mark(&chat(content.clone() + "\u{fdef}"), "").is_err());
        assert!(texts.mark(&chat(content), "{# \u{fdef} #}").is_err());
    }
}
