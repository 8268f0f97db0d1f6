//! What a model's answers are made of beside text: which markers stand around its thoughts and its calls.
//!
//! A family's form is an entry of the table in `answer_form/table.rs`, chosen by what the model's template says. A
//! marker that is a control token in the model's vocabulary is nothing that ordinary text can spell: in the text that
//! an [`AnswerReader`](crate::AnswerReader) reads, [`MARK`] stands before it.

pub(crate) mod call_form;
mod table;
pub(crate) mod wrap;
pub(crate) mod written;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;

use crate::TokenId;
use crate::vocabulary::Vocabulary;
use call_form::{Body, Calls, Thoughts};
use table::{BY_TOKEN, FALLBACK, FAMILIES, Family, SILENT, THOUGHTS};

/// Stands before a marker that is a control token: a noncharacter, which no model writes.
pub(crate) const MARK: char = '\u{fdd1}';

/// What a model's answers are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerForm {
    pub(crate) thoughts: Option<Thoughts<String>>,
    pub(crate) calls: Calls<String>,
    /// Whether the model's template or its vocabulary says that it writes calls so.
    pub(crate) is_known: bool,
    /// Markers that say nothing to a client.
    pub(crate) silent: Vec<String>,
}

/// In what an answer begins, as its prompt has left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// In text.
    Text,
    /// In thoughts, whose opening marker the prompt has.
    Thoughts,
    /// In text, after thoughts that the prompt has: there are no others.
    AfterThoughts,
    /// In what says which it is.
    Header,
}

impl AnswerForm {
    /// The form that a model's template speaks of. `has_token` knows the texts of its vocabulary's special tokens.
    pub(crate) fn new(template: &str, special: &SpecialTexts<'_>) -> AnswerForm {
        let calls = calls_of(template, |token| special.has(token));
        let thoughts = THOUGHTS.iter().find(|thoughts| {
            let is_there = |marker: &str| template.contains(marker) || special.has(marker);
            is_there(thoughts.sign) && is_there(thoughts.close)
        });
        let marked = |text: &str| special.marked(text);
        AnswerForm {
            thoughts: thoughts.map(|thoughts| thoughts.map(marked)),
            is_known: calls.is_some(),
            calls: calls.unwrap_or(FALLBACK).map(marked),
            silent: SILENT.iter().filter(|text| template.contains(**text)).map(|text| marked(text)).collect(),
        }
    }

    /// The form that calls are asked for in where a template shows no tools.
    #[must_use]
    pub fn in_words(mut self) -> AnswerForm {
        self.calls = calls_in_words();
        self.is_known = true;
        self
    }

    /// Whether the model is known to write calls so. Where it is not, the most common form is taken.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// The name of the calls' form.
    pub fn name(&self) -> &'static str {
        self.calls.name
    }

    /// In what an answer to `prompt` begins.
    pub fn begins(&self, prompt: &str) -> Begins {
        let plain = |marker: &str| marker.replace(MARK, "");
        let end = prompt.trim_end();
        if self.calls.is_harmony() {
            return if end.ends_with("<|start|>assistant") { Begins::Header } else { Begins::Text };
        }
        match &self.thoughts {
            Some(thoughts) if end.ends_with(plain(&thoughts.open).trim_end()) => Begins::Thoughts,
            Some(thoughts) if end.ends_with(&plain(&thoughts.close)) => Begins::AfterThoughts,
            _ => Begins::Text,
        }
    }

    /// Where in what a template writes before an answer the markers of the answer itself begin.
    pub(crate) fn begin_of_markers(&self, opening: &str) -> usize {
        let plain = |marker: &str| marker.replace(MARK, "");
        let thoughts = self.thoughts.iter().map(|thoughts| plain(&thoughts.open));
        let markers = thoughts.chain(self.silent.iter().map(|marker| plain(marker)));
        let found = markers.filter_map(|marker| opening.find(marker.trim_end())).min();
        found.unwrap_or(opening.len())
    }

    /// Bytes of the closing marker of thoughts, if `text` begins with it.
    pub(crate) fn closes_thoughts(&self, text: &str) -> usize {
        let close = self.thoughts.as_ref().map(|thoughts| thoughts.close.replace(MARK, ""));
        close.filter(|close| text.starts_with(close.as_str())).map_or(0, |close| close.len())
    }

    /// The tokens, as they are written, that end a message of an answer in channels.
    pub(crate) fn message_ends(&self) -> Vec<String> {
        let Body::Harmony(channels) = &self.calls.body else { return Vec::new() };
        let ends = [&channels.end, &channels.call, &channels.done, &channels.start];
        ends.map(|marker| marker.replace(MARK, "")).to_vec()
    }

    /// The markers around its thoughts.
    pub(crate) fn around_thoughts(&self) -> Option<(String, String)> {
        if let Body::Harmony(channels) = &self.calls.body {
            let open = format!("{}analysis{}", channels.channel, channels.message);
            return Some((open, channels.end.clone()));
        }
        self.thoughts.as_ref().map(|thoughts| (thoughts.open.clone(), thoughts.close.clone()))
    }

    /// The same, as a prompt has them.
    pub(crate) fn around_thoughts_in_prompts(&self) -> Option<(String, String)> {
        self.around_thoughts().map(|(open, close)| (open.replace(MARK, ""), close.replace(MARK, "")))
    }

    /// Whether thoughts may begin in the middle of an answer: there their marker is an example of one, unless only a
    /// model can write it.
    pub(crate) fn reopens_thoughts(&self) -> bool {
        self.thoughts.as_ref().is_some_and(|thoughts| thoughts.open.starts_with(MARK))
    }

    /// Whether its answers can have thoughts.
    pub fn thinks(&self) -> bool {
        self.thoughts.is_some() || self.calls.is_harmony()
    }
}

/// How a model writes calls whose template is this one and whose vocabulary has these special tokens; none where they
/// do not say.
fn calls_of(template: &str, has_token: impl Fn(&str) -> bool) -> Option<Calls<&'static str>> {
    let has_signs = |family: &&Family| family.signs.iter().all(|sign| template.contains(sign));
    if let Some(family) = FAMILIES.iter().find(has_signs) {
        return Some(family.calls);
    }
    let told = BY_TOKEN.iter().find(|told| template.contains(told.sign) && has_token(told.token));
    if let Some(told) = told {
        return FAMILIES.iter().map(|family| family.calls).find(|calls| calls.name == told.form);
    }
    template.contains(FALLBACK.call_open).then_some(FALLBACK)
}

/// The same, as text alone.
pub(crate) fn plain_calls_of(template: &str, has_token: impl Fn(&str) -> bool) -> Calls<String> {
    calls_of(template, has_token).unwrap_or(FALLBACK).map(str::to_owned)
}

/// How calls are asked for where a template shows no tools.
pub(crate) fn calls_in_words() -> Calls<String> {
    FALLBACK.map(str::to_owned)
}

/// The texts of a vocabulary's special tokens.
pub(crate) struct SpecialTexts<'a> {
    /// Control tokens' texts by their first two bytes, the longest first.
    control: HashMap<[u8; 2], Vec<(&'a str, TokenId)>>,
    user_defined: Vec<&'a str>,
    /// Those that were marked.
    used: RefCell<HashMap<TokenId, Box<str>>>,
}

impl<'a> SpecialTexts<'a> {
    pub(crate) fn new(tokens: &'a [String], vocabulary: &Vocabulary) -> SpecialTexts<'a> {
        let text = |id: TokenId| tokens[id as usize].as_str();
        let mut control: HashMap<[u8; 2], Vec<(&str, TokenId)>> = HashMap::new();
        for &id in vocabulary.structural() {
            if let [first, second, ..] = text(id).as_bytes() {
                control.entry([*first, *second]).or_default().push((text(id), id));
            }
        }
        control.values_mut().for_each(|texts| texts.sort_by_key(|(text, _)| Reverse(text.len())));
        let user_defined = vocabulary.user_defined().iter().map(|&id| text(id)).collect();
        SpecialTexts { control, user_defined, used: RefCell::default() }
    }

    fn has(&self, text: &str) -> bool {
        self.control_at(text).is_some_and(|(found, _)| found == text) || self.user_defined.contains(&text)
    }

    /// The longest control token that `text` begins with.
    fn control_at(&self, text: &str) -> Option<(&'a str, TokenId)> {
        let [first, second, ..] = text.as_bytes() else { return None };
        let texts = self.control.get(&[*first, *second])?;
        texts.iter().copied().find(|(control, _)| text.starts_with(control))
    }

    /// The text with [`MARK`] before each control token in it.
    fn marked(&self, text: &str) -> String {
        let mut marked = String::with_capacity(text.len() + 4);
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let len = match self.control_at(rest) {
                Some((control, id)) => {
                    marked.push(MARK);
                    self.used.borrow_mut().insert(id, format!("{MARK}{control}").into());
                    control.len()
                }
                None => c.len_utf8(),
            };
            marked.push_str(&rest[..len]);
            rest = &rest[len..];
        }
        marked
    }

    /// The control tokens that were marked, with their marked texts.
    pub(crate) fn into_used(self) -> HashMap<TokenId, Box<str>> {
        self.used.into_inner()
    }
}
