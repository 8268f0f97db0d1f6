//! Writes a grammar in the language of the library.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::Value;

use crate::TokenId;
use crate::answer_form::MARK;

/// A grammar under way.
pub(crate) struct Lark<'a> {
    markers: &'a HashMap<TokenId, Box<str>>,
    rules: String,
    n_rules: usize,
}

impl Lark<'_> {
    /// One without rules, in which control tokens are known by these texts.
    pub(crate) fn new(markers: &HashMap<TokenId, Box<str>>) -> Lark<'_> {
        Lark { markers, rules: String::new(), n_rules: 0 }
    }

    /// A text as terminals: control tokens by their numbers.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(MARK).unwrap_or(rest.len());
            if end > 0 {
                let _ = write!(out, "{} ", quoted(&rest[..end]));
                rest = &rest[end..];
                continue;
            }
            match self.control_at(rest) {
                Some((id, len)) => {
                    let _ = write!(out, "<[{id}]> ");
                    rest = &rest[len..];
                }
                // A mark without a marker is never made.
                None => rest = &rest[MARK.len_utf8()..],
            }
        }
        if out.is_empty() { "\"\"".to_owned() } else { out.trim_end().to_owned() }
    }

    /// The control token that `text`, which begins with a mark, begins with.
    fn control_at(&self, text: &str) -> Option<(TokenId, usize)> {
        let found = self.markers.iter().filter(|(_, marked)| text.starts_with(marked.as_ref()));
        found.map(|(id, marked)| (*id, marked.len())).max_by_key(|(_, len)| *len)
    }

    /// Text of `min` to `max` characters, up to the first of this marker and with it.
    pub(crate) fn text_until(&mut self, marker: &str, min: u64, max: Option<u64>) -> String {
        let max = max.map_or(String::new(), |max| max.to_string());
        if marker.starts_with(MARK) {
            if max == "0" {
                return self.text(marker);
            }
            // The library wants no terminal that may be empty.
            let text = self.rule(&format!("/(?s:.{{{},{max}}})/", min.max(1)));
            let text = if min == 0 { format!("({text})?") } else { text };
            return format!("{text} {}", self.text(marker));
        }
        let name = self.name();
        let _ = writeln!(self.rules, "{name}[suffix={}]: /(?s:.{{{min},{max}}})/", quoted(marker));
        name
    }

    /// Text of so many tokens at most, up to the first of this control token and with it.
    pub(crate) fn tokens_until(&mut self, marker: &str, n_tokens: usize) -> String {
        let name = self.name();
        let _ = writeln!(self.rules, "{name}[max_tokens={n_tokens}]: /(?s:.+)/");
        format!("({name})? {}", self.text(marker))
    }

    /// A value of this schema.
    pub(crate) fn json(&mut self, schema: &Value) -> String {
        self.rule(&format!("%json {schema}"))
    }

    /// A rule of its own, by its name.
    pub(crate) fn rule(&mut self, body: &str) -> String {
        let name = self.name();
        let _ = writeln!(self.rules, "{name}: {body}");
        name
    }

    fn name(&mut self) -> String {
        self.n_rules += 1;
        format!("r{}", self.n_rules)
    }

    /// The whole grammar.
    pub(crate) fn finish(self, start: &str) -> String {
        format!("start: {start}\n{}", self.rules)
    }
}

/// A text between quotes. It is JSON, and the language does not take one character that JSON does.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
