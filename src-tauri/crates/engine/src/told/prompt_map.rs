//! From a token of a chat's prompt to what of the chat stands there.

use std::ops::Range;

use scheduler::TokenId;
use text::{RenderedChat, TextModel, Tool};

use super::difference::PromptPlace;

/// Bytes of what a template writes around messages; where more stands between two of them it is something else.
const MAX_STRUCTURE_BYTES: usize = 200;
/// Bytes of what a template writes before the first message; where more stands there it is a system message of its own.
const MAX_HEADER_BYTES: usize = 64;
/// Bytes of words that a function's place is told by: shorter ones stand everywhere.
const MIN_WORD_BYTES: usize = 4;

/// A message of a chat, as far as a map of its prompt needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageOutline {
    /// Whose it is.
    pub role: String,
    /// Bytes of its text without white space around it.
    pub n_bytes: usize,
    /// Whether one of its calls has a key twice in its arguments.
    pub has_key_twice: bool,
}

impl MessageOutline {
    /// Whether the model said it.
    pub(crate) fn is_answer(&self) -> bool {
        self.role == "assistant"
    }
}

/// A piece of the text, and which tokens it became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedPiece {
    pub(crate) tokens: Range<usize>,
    pub(crate) text: Range<usize>,
}

/// Where in a prompt its chat's messages are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptMap {
    messages: Vec<MessageOutline>,
    /// Where in the text the messages that have some text end, ascending.
    ends: Vec<usize>,
    /// Where the answers are, calls and all; empty where it is not known which is whose.
    answers: Vec<Range<usize>>,
    has_tools: bool,
    /// Where the functions are shown, as far as their own words tell that.
    tools: Range<usize>,
    /// Ascending; what was generated lies between them.
    pieces: Vec<MappedPiece>,
}

impl PromptMap {
    /// Of a chat of these messages. None where the rendering does not tell where they are.
    pub(crate) fn new(
        rendered: &RenderedChat,
        messages: Vec<MessageOutline>,
        tools: &[Tool],
        pieces: Vec<MappedPiece>,
    ) -> Option<PromptMap> {
        let ends = rendered.message_ends().to_vec();
        let n_with_text = messages.iter().filter(|message| message.n_bytes > 0).count();
        let n_answers = messages.iter().filter(|message| message.is_answer()).count();
        let answers: Vec<Range<usize>> =
            rendered.stretches().iter().map(|stretch| stretch.range.clone()).collect();
        let is_known = !ends.is_empty() && ends.len() == n_with_text;
        let shown = tools.last().filter(|_| is_known);
        is_known.then(|| PromptMap {
            tools: shown
                .and_then(|last| of_tools(rendered.text(), (&messages, &ends), last))
                .unwrap_or_default(),
            messages,
            ends,
            answers: if answers.len() == n_answers { answers } else { Vec::new() },
            has_tools: !tools.is_empty(),
            pieces,
        })
    }

    /// What stands at token `at` of the prompt; none after its last message.
    pub(crate) fn place(&self, at: usize, prompt: &[TokenId], text: &TextModel) -> Option<PromptPlace> {
        let n = self.pieces.partition_point(|piece| piece.tokens.start <= at);
        let piece = self.pieces[..n].last()?;
        let spelt = prompt.get(piece.tokens.start..at.min(piece.tokens.end))?;
        let n_bytes = |id: &TokenId| text.control_text(*id).map_or(text.token_bytes(*id).len(), str::len);
        let offset = piece.text.start + spelt.iter().map(n_bytes).sum::<usize>();
        self.place_at(if at >= piece.tokens.end { piece.text.end } else { offset.min(piece.text.end) })
    }

    fn place_at(&self, offset: usize) -> Option<PromptPlace> {
        if let Some(n) = self.answers.iter().position(|answer| answer.contains(&offset)) {
            let mut answers = (0..self.messages.len()).filter(|idx| self.messages[*idx].is_answer());
            return self.message(answers.nth(n)?);
        }
        if self.tools.contains(&offset) {
            return Some(PromptPlace::Tools);
        }
        let with_text: Vec<usize> =
            (0..self.messages.len()).filter(|&idx| self.messages[idx].n_bytes > 0).collect();
        let next = self.ends.partition_point(|&end| end <= offset);
        let before = next.checked_sub(1).map(|before| with_text[before]);
        let after_before = before.map_or(0, |before| before + 1);
        let Some(&idx) = with_text.get(next) else { return self.message(after_before) };
        let start = self.ends[next].saturating_sub(self.messages[idx].n_bytes);
        if offset >= start || after_before < idx {
            return self.message(if offset >= start { idx } else { after_before });
        }
        let is_front = self.messages[..idx].iter().all(|message| message.role == "system");
        if self.has_tools && is_front && start - offset > MAX_STRUCTURE_BYTES {
            return Some(PromptPlace::Tools);
        }
        if before.is_none() && start - offset > MAX_HEADER_BYTES {
            return Some(PromptPlace::System);
        }
        self.message(idx)
    }

    fn message(&self, idx: usize) -> Option<PromptPlace> {
        let MessageOutline { role, .. } = self.messages.get(idx)?;
        if idx == 0 && role == "system" {
            return Some(PromptPlace::System);
        }
        Some(PromptPlace::Message { idx, role: role.clone() })
    }
}

/// Where a template shows functions, of which this is the last one: from the end of what stands before them to the end
/// of the last of its words that stands before the first message that is not the system's.
fn of_tools(
    text: &str,
    (messages, ends): (&[MessageOutline], &[usize]),
    last: &Tool,
) -> Option<Range<usize>> {
    let words = last.words();
    let mut before = 0;
    for (message, &end) in messages.iter().filter(|message| message.n_bytes > 0).zip(ends) {
        let gap = text.get(before..end.saturating_sub(message.n_bytes)).unwrap_or_default();
        if let Some(at) = gap.rfind(&last.name) {
            let words = words.iter().filter(|word| word.len() >= MIN_WORD_BYTES);
            let ends = words.filter_map(|word| Some(gap.rfind(word)? + word.len()));
            let end = ends.fold(at + last.name.len(), usize::max);
            // What closes them, in most templates.
            let is_closing =
                |c: char| c.is_whitespace() || c.is_ascii_digit() || c != '<' && c.is_ascii_punctuation();
            let rest = &gap[end..];
            return Some(before..before + end + (rest.len() - rest.trim_start_matches(is_closing).len()));
        }
        if message.role != "system" {
            break;
        }
        before = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(messages: &[(&str, usize)], ends: &[usize], has_tools: bool) -> PromptMap {
        let messages = messages.iter().map(|(role, n_bytes)| MessageOutline {
            role: (*role).to_owned(),
            n_bytes: *n_bytes,
            has_key_twice: false,
        });
        PromptMap { messages: messages.collect(), ends: ends.to_vec(), has_tools, ..PromptMap::default() }
    }

    fn show(place: Option<PromptPlace>) -> String {
        match place {
            Some(PromptPlace::Message { idx, role }) => format!("{role} {idx}"),
            Some(place) => format!("{place:?}"),
            None => "-".to_owned(),
        }
    }

    #[test]
    fn a_place_is_in_a_message_or_in_what_stands_before_it() {
        // system at 20..120, tools, user at 1000..1010, a call without text, its result at 1100..1150.
        let messages = [("system", 100), ("user", 10), ("assistant", 0), ("tool", 50)];
        let map = map(&messages, &[120, 1010, 1150], true);
        for (offset, want) in [
            (0, "System"),
            (119, "System"),
            (120, "Tools"),
            (700, "Tools"),
            (990, "user 1"),
            (1009, "user 1"),
            (1010, "assistant 2"),
            (1090, "assistant 2"),
            (1100, "tool 3"),
            (1149, "tool 3"),
            (1150, "-"),
        ] {
            assert_eq!(show(map.place_at(offset)), want, "{offset}");
        }
    }

    #[test]
    fn what_an_answer_has_beside_its_text_is_part_of_it() {
        let messages = [("user", 10), ("assistant", 10), ("tool", 50)];
        let map =
            PromptMap { answers: std::iter::once(30..200).collect(), ..map(&messages, &[20, 50, 300], true) };
        for (offset, want) in
            [(29, "assistant 1"), (30, "assistant 1"), (199, "assistant 1"), (200, "tool 2")]
        {
            assert_eq!(show(map.place_at(offset)), want, "{offset}");
        }
    }

    #[test]
    fn functions_are_where_their_own_words_are() {
        let tool = |name: &str| Tool {
            name: name.to_owned(),
            parameters: Some(
                serde_json::json!({"type": "object", "properties": {"path": {"type": "string"}}}),
            ),
            ..Tool::default()
        };
        let (front, system) = ("<s>[{\"look\":{\"path\":1}}]</s>", "Never look at a path.");
        let text = format!("{front}<s>{system}</s><s>hi</s>");
        let outline = |role: &str, text: &str| MessageOutline {
            role: role.to_owned(),
            n_bytes: text.len(),
            has_key_twice: false,
        };
        let messages = [outline("system", system), outline("user", "hi")];
        let end = |text: &str, of: &str| text.find(of).unwrap() + of.len();
        let find = |text: &str, name: &str| {
            let ends = [end(text, system), end(text, "<s>hi")];
            of_tools(text, (&messages, &ends), &tool(name)).map(|range| text[range].to_owned())
        };
        assert_eq!(find(&text, "look").as_deref(), Some("<s>[{\"look\":{\"path\":1}}]"));
        let behind = format!("<s>{system}\nUse look(path: string)\n</s><s>hi</s>");
        assert_eq!(find(&behind, "look").as_deref(), Some("\nUse look(path: string)\n"));
        assert_eq!(find(&text, "find"), None);
    }

    #[test]
    fn without_tools_nothing_is_taken_for_them() {
        let map = map(&[("user", 10), ("assistant", 5)], &[1010, 1100], false);
        assert_eq!(show(map.place_at(0)), "System", "a system message of the template's own");
        assert_eq!(show(map.place_at(950)), "user 0");
        assert_eq!(show(map.place_at(1050)), "assistant 1");
    }
}
