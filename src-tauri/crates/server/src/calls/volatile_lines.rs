//! Lines that an agent writes anew into every request, at a place that everything else stands behind.
//!
//! A prompt is read from its start, and what is behind a change is read again. Two kinds of lines change all the time
//! and say little. Notes to a provider's billing say nothing to a model: they are left out. Counts of tokens (used, left,
//! of so many) do say something: the first one that a conversation began with stays where it is, and one that differs is
//! said where it is new, with the newest message, and stays there in later requests. So the model is told every count
//! that it would have been told, and nothing in front of the newest message changes.
//!
//! ```text
//!  first request       system: … Tokens left: 90000 …   user: a
//!  second, as it came  system: … Tokens left: 71000 …   user: a   assistant: b   user: c
//!  second, as put      system: … Tokens left: 90000 …   user: a   assistant: b   user: c <system-reminder>Tokens left: 71000
//! ```
//!
//! What was said where is remembered in memory, within bounds; where it is forgotten, a prompt is what the client sent.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use blake3::{Hash, Hasher};
use text::{Chat, ChatMessage};

/// What a note to billing begins with, in any case.
const BILLING: &str = "x-anthropic-billing-header:";
/// Bytes of a line that may be a count.
const MAX_COUNT_BYTES: usize = 300;
/// Lines of one request that are looked at as counts.
const MAX_COUNTS: usize = 8;
/// Conversations whose counts are remembered; those noted longest ago go first.
const MAX_CONVERSATIONS: usize = 256;
/// Places in one conversation where counts were said.
const MAX_SAID: usize = 2048;

/// Settles chats, and remembers how it did.
#[derive(Debug, Default)]
pub(crate) struct VolatileLines {
    /// Guards what was said in which conversation; held for the look at one chat.
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    conversations: HashMap<Hash, Conversation>,
    /// In the order in which they were noted.
    order: VecDeque<Hash>,
}

#[derive(Debug)]
struct Conversation {
    /// The counts that it began with.
    first: Vec<String>,
    /// Those that were said later, by all that stands before the place and at it.
    later: HashMap<Hash, Vec<String>>,
}

impl VolatileLines {
    /// Takes out of a chat what changes for no model's sake, and puts counts where they are new; says what was done.
    /// `model` tells models apart.
    pub(crate) fn settle(&self, chat: &mut Chat, model: &[u8; 32], remarks: &mut Vec<String>) {
        if leave_out_notes(&mut chat.messages) {
            remarks.push("a note to a provider's billing was left out of the system message".to_owned());
        }
        let n_front = chat.messages.iter().take_while(|message| message.role == "system").count();
        // What stands before the first answer is in front of everything that comes later.
        let n_front = (n_front + 1).min(chat.messages.len());
        let counts: Vec<String> = chat.messages[..n_front]
            .iter()
            .filter(|message| message.role != "assistant")
            .flat_map(|message| message.content.lines().filter(|line| is_count(line)))
            .map(str::to_owned)
            .collect();
        if counts.is_empty() || counts.len() > MAX_COUNTS {
            return;
        }
        let places = Places::of(chat, n_front, model);
        let Some(said) = self.look_up(chat, counts, &places) else { return };
        if put(chat, n_front, &said) {
            let remark = "a count of tokens that has changed is said where it is new";
            remarks.push(remark.to_owned());
        }
    }

    /// What is said where; nothing where the chat stays as it is.
    fn look_up(&self, chat: &Chat, counts: Vec<String>, places: &Places) -> Option<Saying> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Said { conversations, order } = &mut *said;
        let has_answers = chat.messages.iter().any(|message| message.role == "assistant");
        let known = conversations.get_mut(&places.conversation).filter(|_| has_answers);
        let Some(conversation) = known.filter(|known| known.first.len() == counts.len()) else {
            // It begins here, as far as anybody knows.
            let new = Conversation { first: counts, later: HashMap::new() };
            if conversations.insert(places.conversation, new).is_none() {
                order.push_back(places.conversation);
            }
            if order.len() > MAX_CONVERSATIONS
                && let Some(oldest) = order.pop_front()
            {
                conversations.remove(&oldest);
            }
            return None;
        };
        let (newest, earlier) = places.turns.split_last()?;
        // An answer that is to be gone on with has no place for anything new.
        if newest.message + 1 != chat.messages.len() {
            return None;
        }
        let mut last = &conversation.first;
        let mut later = Vec::new();
        for place in earlier {
            if let Some(lines) = conversation.later.get(&place.digest) {
                later.push((place.message, new_lines(last, lines)));
                last = lines;
            }
        }
        if *last == counts {
            conversation.later.remove(&newest.digest);
        } else {
            later.push((newest.message, new_lines(last, &counts)));
            if conversation.later.len() >= MAX_SAID {
                conversation.later.clear();
            }
            conversation.later.insert(newest.digest, counts);
        }
        let conversation = &conversations[&places.conversation];
        Some(Saying { first: conversation.first.clone(), later })
    }
}

/// What is said where in a chat.
struct Saying {
    first: Vec<String>,
    /// By message, ascending.
    later: Vec<(usize, Vec<String>)>,
}

/// What tells a chat's conversation, and its turns, from others, whatever its counts.
struct Places {
    conversation: Hash,
    turns: Vec<Place>,
}

struct Place {
    message: usize,
    digest: Hash,
}

impl Places {
    fn of(chat: &Chat, n_front: usize, model: &[u8; 32]) -> Places {
        let mut hasher = Hasher::new_keyed(model);
        let mut conversation = None;
        let mut turns = Vec::new();
        for (message, ChatMessage { role, content, .. }) in chat.messages.iter().enumerate() {
            if message == n_front {
                conversation = Some(hasher.finalize());
            }
            hasher.update(role.as_bytes()).update(b"\0");
            // A client may write an answer in other words of the same meaning.
            if role == "assistant" {
                continue;
            }
            for line in content.lines() {
                let is_shaped = message < n_front && is_count(line);
                let line = if is_shaped { shape(line) } else { line.to_owned() };
                hasher.update(&(line.len() as u64).to_le_bytes()).update(line.as_bytes());
            }
            if matches!(role.as_str(), "user" | "tool") {
                turns.push(Place { message, digest: hasher.finalize() });
            }
        }
        Places { conversation: conversation.unwrap_or_else(|| hasher.finalize()), turns }
    }
}

/// Leaves out lines that are nothing but a note to billing, and messages that were nothing else. Returns whether there
/// were any.
fn leave_out_notes(messages: &mut Vec<ChatMessage>) -> bool {
    let mut has_left_out = false;
    messages.retain_mut(|message| {
        if message.role != "system" || !message.content.lines().any(is_note) {
            return true;
        }
        has_left_out = true;
        let others: Vec<&str> = message.content.split('\n').filter(|line| !is_note(line)).collect();
        message.content = others.join("\n");
        !message.content.trim().is_empty()
    });
    has_left_out
}

fn is_note(line: &str) -> bool {
    let line = line.trim_start();
    line.get(..BILLING.len()).is_some_and(|start| start.eq_ignore_ascii_case(BILLING))
}

/// Whether a line says how many tokens, or how much of the context, there are.
fn is_count(line: &str) -> bool {
    if line.len() > MAX_COUNT_BYTES || !line.bytes().any(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let line = line.to_ascii_lowercase();
    let is_of_context = line.contains("token") || line.contains("context");
    let is_a_count = ["left", "remain", "used", "usage", "budget", "available", "so far"];
    is_of_context && is_a_count.iter().any(|word| line.contains(word))
}

/// A line without its numbers.
fn shape(line: &str) -> String {
    let mut shape = String::with_capacity(line.len());
    for c in line.chars() {
        let is_of_number = c.is_ascii_digit() || (shape.ends_with('#') && matches!(c, '.' | ',' | '_'));
        match is_of_number {
            true if shape.ends_with('#') => {}
            true => shape.push('#'),
            false => shape.push(c),
        }
    }
    shape
}

/// Of `lines` those that differ from the ones before.
fn new_lines(before: &[String], lines: &[String]) -> Vec<String> {
    lines.iter().zip(before).filter(|(line, before)| line != before).map(|(line, _)| line.clone()).collect()
}

/// Writes into the chat what is said where. Returns whether that is more than what it began with.
fn put(chat: &mut Chat, n_front: usize, said: &Saying) -> bool {
    let mut first = said.first.iter();
    for message in chat.messages[..n_front].iter_mut().filter(|message| message.role != "assistant") {
        let lines = message.content.split('\n').map(|line| {
            let bare = line.strip_suffix('\r').unwrap_or(line);
            match is_count(bare).then(|| first.next()).flatten() {
                Some(first) if bare.len() < line.len() => format!("{first}\r"),
                Some(first) => first.clone(),
                None => line.to_owned(),
            }
        });
        message.content = lines.collect::<Vec<_>>().join("\n");
    }
    for (message, lines) in &said.later {
        let reminder = format!("<system-reminder>\n{}\n</system-reminder>", lines.join("\n"));
        let content = &mut chat.messages[*message].content;
        if !content.is_empty() {
            content.push('\n');
        }
        content.push_str(&reminder);
    }
    !said.later.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: [u8; 32] = [1; 32];

    fn chat(messages: &[(&str, &str)]) -> Chat {
        let messages = messages.iter().map(|(role, content)| ChatMessage::new(*role, *content)).collect();
        Chat { messages, add_generation_prompt: true, ..Chat::default() }
    }

    fn show(chat: &Chat) -> String {
        let line = |m: &ChatMessage| format!("{}: {}", m.role, m.content.replace('\n', "/"));
        chat.messages.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn settled(lines: &VolatileLines, messages: &[(&str, &str)]) -> String {
        let mut chat = chat(messages);
        lines.settle(&mut chat, &MODEL, &mut Vec::new());
        show(&chat)
    }

    #[test]
    fn a_note_to_billing_is_left_out_where_it_stands_alone() {
        let note = "x-anthropic-billing-header: cc_version=2.1.37.0d9; cch=fa690;";
        let upper = note.to_uppercase();
        for (system, want) in [
            (format!("{note}\nBe brief."), "system: Be brief.\nuser: a"),
            (format!("Be brief.\n  {upper}\nBe kind."), "system: Be brief./Be kind.\nuser: a"),
            (note.to_owned(), "user: a"),
            (format!("{note}\n\n"), "user: a"),
            (format!("It begins with {note}"), &*format!("system: It begins with {note}\nuser: a")),
        ] {
            let lines = VolatileLines::default();
            let once = settled(&lines, &[("system", &system), ("user", "a")]);
            assert_eq!(once, want);
        }
        // What a user says is the user's.
        let lines = VolatileLines::default();
        assert_eq!(settled(&lines, &[("user", note)]), format!("user: {note}"));
        let mut remarks = Vec::new();
        lines.settle(&mut chat(&[("system", note), ("user", "a")]), &MODEL, &mut remarks);
        assert!(remarks[0].contains("billing"));
    }

    #[test]
    fn a_count_that_changes_is_said_where_it_is_new_and_stays_there() {
        let lines = VolatileLines::default();
        let system = |n: &str| format!("Be brief.\nTokens left: {n} of 100,000\nBe kind.");
        let first = settled(&lines, &[("system", &system("90,000")), ("user", "a")]);
        assert_eq!(first, "system: Be brief./Tokens left: 90,000 of 100,000/Be kind.\nuser: a");
        let second = [("system", &*system("71,000")), ("user", "a"), ("assistant", "b"), ("user", "c")];
        let want = format!(
            "{first}\nassistant: b\nuser: c/<system-reminder>/Tokens left: 71,000 of 100,000/</system-reminder>"
        );
        assert_eq!(settled(&lines, &second), want);
        assert_eq!(settled(&lines, &second), want, "asked once more");
        let third = system("60,500");
        let mut third = vec![("system", &*third), ("user", "a"), ("assistant", "B"), ("user", "c")];
        third.extend([("assistant", "d"), ("tool", "e")]);
        let want = format!(
            "{}\nassistant: d\ntool: e/<system-reminder>/Tokens left: 60,500 of 100,000/</system-reminder>",
            want.replace("assistant: b", "assistant: B")
        );
        assert_eq!(settled(&lines, &third), want);
        // It has not changed since.
        third.extend([("assistant", "f"), ("user", "g")]);
        assert_eq!(settled(&lines, &third), format!("{want}\nassistant: f\nuser: g"));
    }

    #[test]
    fn what_changes_otherwise_and_what_nobody_has_seen_before_stays_as_it_was_sent() {
        let lines = VolatileLines::default();
        let chats = [
            [("system", "Tokens left: 5"), ("user", "a")],
            [("system", "Use at most 3 tokens."), ("user", "a")],
            [("system", "Context used: 5"), ("user", "b")],
        ];
        for chat in chats {
            settled(&lines, &chat);
        }
        for messages in [
            // Another first message is another conversation, and so is another word.
            [("system", "Tokens left: 4"), ("user", "b"), ("assistant", "c"), ("user", "d")],
            [("system", "TOKENS left: 4"), ("user", "a"), ("assistant", "c"), ("user", "d")],
            // No count.
            [("system", "Use at most 4 tokens."), ("user", "a"), ("assistant", "c"), ("user", "d")],
        ] {
            assert_eq!(settled(&lines, &messages), show(&chat(&messages)));
        }
        // Without an answer a conversation begins, whatever was there before.
        let again = [("system", "Tokens left: 9"), ("user", "a")];
        assert_eq!(settled(&lines, &again), show(&chat(&again)));
        // Another model has another memory.
        let mut other =
            chat(&[("system", "Tokens left: 4"), ("user", "a"), ("assistant", "c"), ("user", "d")]);
        let before = other.clone();
        lines.settle(&mut other, &[2; 32], &mut Vec::new());
        assert_eq!(other, before);
    }

    #[test]
    fn an_answer_to_be_continued_stays_as_it_was_sent() {
        let lines = VolatileLines::default();
        settled(&lines, &[("system", "Tokens left: 5"), ("user", "a")]);
        let messages = [("system", "Tokens left: 4"), ("user", "a"), ("assistant", "c")];
        assert_eq!(settled(&lines, &messages), show(&chat(&messages)));
    }

    #[test]
    fn no_more_conversations_are_remembered_than_the_bound_says() {
        let lines = VolatileLines::default();
        for n in 0..3 * MAX_CONVERSATIONS {
            settled(&lines, &[("system", "Tokens left: 5"), ("user", &format!("a{n}"))]);
        }
        let said = lines.said.lock().unwrap();
        assert_eq!((said.conversations.len(), said.order.len()), (MAX_CONVERSATIONS, MAX_CONVERSATIONS));
    }
}
