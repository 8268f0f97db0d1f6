//! Up to where a chat's text stays as it is when the conversation goes on: the places that later prompts come back to.
//!
//! A template may write earlier messages anew once later ones follow: it leaves out thoughts, or moves the tools. What it
//! leaves as it is is found without knowing it: it is shown the chat with one more answer and one more question, and what
//! both texts have in common is what the next turn's prompt will have too. The same is done for what conversations with
//! the same system message and tools have in common, and for what stands before the generation prompt. Each rendering
//! ends where the texts part.
//!
//! ```text
//! the prompt       system  user A  <think>Hm.</think>call  result  <|im_start|>assistant⏎<think>⏎
//! one turn later   system  user A  call  result  <|im_start|>assistant⏎zq<|im_end|> user zq
//!                                  ▲ the return point: the template leaves out thoughts before the last question
//! another question system  user zq
//!                          ▲ the system's end
//! ```

use serde::{Deserialize, Serialize};

use crate::landmarks::ASSISTANT;
use crate::template::{Rendering, Template};
use crate::{Chat, ChatMessage, TextError};

/// What is asked for of a rendering.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// The text.
    #[default]
    Text,
    /// The text, and where later prompts come back to it.
    TextAndPoints,
}

/// The places of a chat's text that later prompts come back to: bytes of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatPoints {
    /// Where the system's message and the tools end: what conversations share that begin with the same ones.
    pub system_end: Option<usize>,
    /// How far the text survives one more answer and one more message of the user's.
    pub return_point: Option<usize>,
    /// Where the last message ends, before what the template adds to have an answer generated.
    pub generation_start: Option<usize>,
    /// Why the return point is not known, in the template's words.
    pub fault: Option<String>,
}

/// What the messages say that are tried. No template looks for it, and none writes it by itself.
const TRIED: &str = "zq";

impl ChatPoints {
    /// Finds the points of `chat`, which `template` renders as `rendering`, in bytes of the text with its marks.
    pub(crate) fn find(template: &Template, chat: &Chat, rendering: &Rendering) -> ChatPoints {
        let tried = Tried { template, chat, rendering };
        let (return_point, fault) = match tried.return_point() {
            Ok(at) => (Some(at), None),
            Err(error) => (None, Some(error.to_string())),
        };
        ChatPoints {
            system_end: tried.system_end(),
            return_point,
            generation_start: tried.generation_start(),
            fault,
        }
    }

    /// The same points, each where `place` moves it; one that it moves to the start is none.
    pub(crate) fn map(&self, place: impl Fn(usize) -> usize) -> ChatPoints {
        let point = |at: Option<usize>| at.map(&place).filter(|&at| at > 0);
        ChatPoints {
            system_end: point(self.system_end),
            return_point: point(self.return_point),
            generation_start: point(self.generation_start),
            fault: self.fault.clone(),
        }
    }

    /// Where they are, in no order.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        [self.system_end, self.return_point, self.generation_start].into_iter().flatten()
    }
}

/// A chat whose text is compared with that of others.
struct Tried<'a> {
    template: &'a Template,
    chat: &'a Chat,
    rendering: &'a Rendering,
}

impl Tried<'_> {
    fn return_point(&self) -> Result<usize, TextError> {
        let (earlier, last) = match self.chat.messages.split_last() {
            // An answer that is gone on with is longer then.
            Some((last, earlier)) if self.chat.continue_final => {
                let content = format!("{}{TRIED}", last.content);
                (earlier, Some(ChatMessage { content, ..last.clone() }))
            }
            _ => (&self.chat.messages[..], None),
        };
        let answer = last.unwrap_or_else(|| ChatMessage::new(ASSISTANT, TRIED));
        let question = ChatMessage::new("user", TRIED);
        let whole = self.n_common(earlier, &[&answer, &question], true);
        match whole {
            // It may want questions and answers by turns, and have an answer last.
            Err(TextError::Refused(_)) if self.is_answered() => {
                self.n_common(&self.chat.messages, &[&question], true).or(whole)
            }
            whole => whole,
        }
    }

    fn is_answered(&self) -> bool {
        self.chat.messages.last().is_some_and(|last| last.role == ASSISTANT)
    }

    fn system_end(&self) -> Option<usize> {
        let is_front = |message: &&ChatMessage| matches!(message.role.as_str(), "system" | "developer");
        let n_front = self.chat.messages.iter().take_while(is_front).count();
        let question = ChatMessage::new("user", TRIED);
        self.n_common(&self.chat.messages[..n_front], &[&question], true).ok()
    }

    fn generation_start(&self) -> Option<usize> {
        let messages = match self.chat.messages.split_last() {
            Some((_, earlier)) if self.chat.continue_final => earlier,
            _ if self.chat.add_generation_prompt => &self.chat.messages[..],
            // Nothing is added.
            _ => return Some(self.rendering.text.len()),
        };
        self.n_common(messages, &[], false).ok()
    }

    /// Bytes that the chat's text has in common with that of these messages.
    fn n_common(
        &self,
        earlier: &[ChatMessage],
        more: &[&ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<usize, TextError> {
        let messages = earlier.iter().chain(more.iter().copied());
        self.template.n_common(messages, &self.chat.extra, add_generation_prompt, self.rendering)
    }
}

/// Where, at or before `at`, the tokens of `text` part whatever follows there: after a special token, which ends at one
/// of `special_ends` (ascending), or between the end of a line and the next one's first word.
pub(crate) fn parting_place(text: &str, special_ends: &[usize], at: usize) -> usize {
    let n_before = special_ends.partition_point(|&end| end <= at);
    let special = special_ends[..n_before].last().copied().unwrap_or(0);
    let before = &text[special..at];
    let lines = before.rmatch_indices('\n').map(|(newline, _)| newline + 1);
    let begins = |&start: &usize| before[start..].chars().next().is_some_and(|first| !first.is_whitespace());
    special + lines.take(MAX_LINES).find(begins).unwrap_or(0)
}

/// Lines that are looked at for one that begins with a word.
const MAX_LINES: usize = 64;

#[cfg(test)]
mod tests {
    use super::parting_place;

    #[test]
    fn tokens_part_after_a_special_one_and_where_a_line_begins_with_a_word() {
        let text = "<s>user\nHi\n\nthere\n</s>\n<s>assistant\n<think>\n";
        let end = |of: &str| text.rfind(of).unwrap() + of.len();
        let ends = ["<s>", "</s>", "<s>assistant", "<think>"];
        let special = [3, end(ends[1]), end("<s>"), end(ends[3])];
        for (at, want) in [
            (text.len(), end("<think>")),
            (end("<think>"), end("<think>")),
            (end("assistant\n"), end("<s>")),
            (end("</s>\n"), end("</s>")),
            (end("there\n"), end("Hi\n\n")),
            (end("there"), end("Hi\n\n")),
            (end("Hi\n\n"), end("user\n")),
            (end("user\n"), 3),
            (2, 0),
            (0, 0),
        ] {
            assert_eq!(parting_place(text, &special, at), want, "{at}");
        }
    }
}
