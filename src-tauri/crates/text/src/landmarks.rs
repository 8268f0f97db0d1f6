//! Where, in a chat as its template wrote it, answers start and messages end.
//!
//! The template says nothing of where it puts a message's content. So the chat is rendered once more with
//! landmarks in the contents: characters that occur nowhere else, put *inside* leading and trailing white space,
//! where `trim` does not notice them. Only when the text without its landmarks is the text as it is are they
//! believed; a template that looks at them, or writes contents otherwise than they are, gives none.
//!
//! ```text
//! content    "  Hello there.\n"
//! landmarks  "  ▸Hello there.◂\n"                       ▸ ◂ = the landmarks
//! rendered   "<|assistant|>▸Hello there.◂<|end|>\n"     by a template that trims
//! ```

use serde::{Deserialize, Serialize};

use crate::chat::{Chat, ChatMessage};
use crate::defusing::unused_noncharacter;
use crate::special::SpecialTokens;
use crate::template::{Rendering, Template};

/// Where landmarks were found in a text that has none any more: bytes of the text with its marks, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Landmarks {
    pub(crate) starts: Vec<usize>,
    pub(crate) ends: Vec<usize>,
}

impl Landmarks {
    /// Finds where `chat`, which `template` renders as `rendering`, has its contents; before an answer it writes
    /// `opening`, if that is known.
    pub(crate) fn find(
        template: &Template,
        chat: &Chat,
        rendering: &Rendering,
        opening: Option<&str>,
    ) -> Landmarks {
        let find = |with_ends| Landmarks::find_kinds(template, chat, (rendering, opening), with_ends);
        // A template may look at how messages end, those of tools for example, and not at how answers start.
        find(WithEnds::Yes).or_else(|| find(WithEnds::No)).unwrap_or_default()
    }

    fn find_kinds(
        template: &Template,
        chat: &Chat,
        (rendering, opening): (&Rendering, Option<&str>),
        with_ends: WithEnds,
    ) -> Option<Landmarks> {
        let start = unused_noncharacter(chat, template.source(), None).ok()?;
        let end = unused_noncharacter(chat, template.source(), Some(start)).ok()?;
        let with_landmarks = Chat {
            messages: chat.messages.iter().map(|m| with_landmarks(m, start, end, with_ends)).collect(),
            extra: chat.extra.clone(),
            tools: Vec::new(),
            ..*chat
        };
        let text = template.render(&with_landmarks, rendering.mark, rendering.now).ok()?.text;
        let mut landmarks = Landmarks::default();
        let mut without = String::with_capacity(rendering.text.len());
        for c in text.chars() {
            match c {
                c if c == start => landmarks.starts.push(without.len()),
                c if c == end => landmarks.ends.push(without.len()),
                c => without.push(c),
            }
        }
        if without != rendering.text {
            return None;
        }
        if let Some(opening) = opening {
            landmarks.move_to_generation_prompts(opening, &rendering.text);
        }
        Some(landmarks)
    }

    /// An answer starts where the generation prompt ends: before the white space that it begins with, where the
    /// template does not trim, and before what the template puts between the two.
    fn move_to_generation_prompts(&mut self, opening: &str, text: &str) {
        for start in &mut self.starts {
            let before = &text[..*start];
            let floor = before.trim_end().len();
            let mut places = (floor..=*start).rev().filter(|&at| before.is_char_boundary(at));
            let found = if opening.is_empty() {
                Some(floor)
            } else {
                places.find(|&at| before[..at].ends_with(opening))
            };
            *start = found.unwrap_or(*start);
        }
    }
}

/// Whether the ends of messages get landmarks too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WithEnds {
    Yes,
    No,
}

pub(crate) const ASSISTANT: &str = "assistant";

fn with_landmarks(message: &ChatMessage, start: char, end: char, with_ends: WithEnds) -> ChatMessage {
    let mut message = message.clone();
    let content = &message.content;
    let core = content.trim();
    if core.is_empty() {
        return message;
    }
    let lead = &content[..content.len() - content.trim_start().len()];
    let trail = &content[lead.len() + core.len()..];
    let mut marked = String::with_capacity(content.len() + 8);
    marked.push_str(lead);
    if message.role == ASSISTANT {
        marked.push(start);
    }
    marked.push_str(core);
    if with_ends == WithEnds::Yes {
        marked.push(end);
    }
    marked.push_str(trail);
    message.content = marked;
    message
}

/// What the template writes before an answer, or the end of it; empty if it writes nothing.
pub(crate) fn generation_prompt(
    template: &Template,
    special: &SpecialTokens,
    chat: &Chat,
    rendering: &Rendering,
) -> Option<String> {
    let render = |add_generation_prompt| {
        let chat = Chat { add_generation_prompt, continue_final: false, ..chat.clone() };
        template.render(&chat, rendering.mark, rendering.now).ok().map(|rendering| rendering.text)
    };
    let (with, without) = match (chat.continue_final, chat.add_generation_prompt) {
        (true, _) => (render(true)?, render(false)?),
        (false, true) => (rendering.text.clone(), render(false)?),
        (false, false) => (render(true)?, rendering.text.clone()),
    };
    // Some templates close the text where there is no generation prompt.
    let common = with.chars().zip(without.chars()).take_while(|(a, b)| a == b);
    let n_common: usize = common.map(|(c, _)| c.len_utf8()).sum();
    Some(with[special.start_of(&with, n_common)..].to_owned())
}
