//! Answers in channels, as the harmony format has them: each message says in its header what it is.
//!
//! ```text
//! <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>
//! <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}<|call|>
//! ```

use super::found::{Found, Match, begins, find, head, is_space};
use super::said::is_offered;
use crate::Tool;
use crate::answer_form::MARK;
use crate::answer_form::call_form::Channels;

/// Bytes of a header: one that is longer is text.
const MAX_HEADER_BYTES: usize = 1 << 10;

/// Reads messages in channels.
#[derive(Debug)]
pub(crate) struct HarmonyReader {
    at: At,
    /// Whether the next character is text whatever it begins.
    is_text: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Header,
    Message(Message),
    /// Between a message's end and the next one's start.
    Between,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Text,
    Thoughts,
    /// To this one of the tools.
    Call(usize),
}

/// What is read of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// One begins.
    Begins(Message),
    /// More of it.
    More(&'a str),
    /// It is complete.
    Ends,
}

impl HarmonyReader {
    /// An answer that begins within a header, or within a text.
    pub(crate) fn new(in_header: bool) -> HarmonyReader {
        HarmonyReader { at: if in_header { At::Header } else { At::Message(Message::Text) }, is_text: false }
    }

    /// Whether it is within thoughts.
    pub(crate) fn is_thinking(&self) -> bool {
        self.at == At::Message(Message::Thoughts)
    }

    /// Reads the next piece, and gives how many bytes it took; none where more must come first.
    pub(crate) fn read<'a>(
        &mut self,
        text: &'a str,
        channels: &Channels<String>,
        tools: &[Tool],
        is_last: bool,
    ) -> Option<(usize, Option<Piece<'a>>)> {
        match self.at {
            At::Header => self.header(text, channels, tools, is_last),
            At::Message(_) => self.message(text, channels, is_last),
            At::Between => self.between(text, channels, is_last),
        }
    }

    fn header<'a>(
        &mut self,
        text: &'a str,
        channels: &Channels<String>,
        tools: &[Tool],
        is_last: bool,
    ) -> Option<(usize, Option<Piece<'a>>)> {
        let plain = text.trim_start_matches(is_space);
        let is_header = plain.starts_with(MARK)
            || ["assistant", "to=", &channels.channel, &channels.start]
                .iter()
                .any(|start| begins(plain, start) != Match::No);
        let markers = [&channels.message, &channels.end, &channels.done, &channels.call].map(String::as_str);
        match find(head(text, MAX_HEADER_BYTES), &markers) {
            Found::At { at, marker: 0 } if is_header => {
                let message = message_of(&text[..at], channels, tools);
                self.at = At::Message(message);
                return Some((at + channels.message.len(), Some(Piece::Begins(message))));
            }
            // A header without a message says nothing.
            Found::At { at, marker } if is_header => {
                self.at = At::Between;
                return Some((at + markers[marker].len(), None));
            }
            _ => {}
        }
        let is_cut = is_last && !text.contains(channels.channel.as_str());
        if !is_header || text.len() > MAX_HEADER_BYTES || is_cut {
            // A model that says something without saying what it is says text.
            self.at = At::Message(Message::Text);
            self.is_text = true;
            return Some((0, Some(Piece::Begins(Message::Text))));
        }
        None
    }

    fn message<'a>(
        &mut self,
        text: &'a str,
        channels: &Channels<String>,
        is_last: bool,
    ) -> Option<(usize, Option<Piece<'a>>)> {
        let ends = [&channels.end, &channels.call, &channels.done, &channels.start, &channels.channel]
            .map(String::as_str);
        if std::mem::take(&mut self.is_text)
            && let Some(first) = text.chars().next()
        {
            let n = first.len_utf8();
            return Some((n, Some(Piece::More(&text[..n]))));
        }
        let n = match find(text, &ends) {
            Found::At { at: 0, marker } => {
                // What begins the next header is part of it.
                let (at, len) = if marker < 3 { (At::Between, ends[marker].len()) } else { (At::Header, 0) };
                self.at = at;
                return Some((len, Some(Piece::Ends)));
            }
            Found::At { at, .. } => at,
            Found::MaybeAt(at) if !is_last => at,
            Found::MaybeAt(_) | Found::No => text.len(),
        };
        (n > 0).then(|| (n, Some(Piece::More(&text[..n]))))
    }

    fn between<'a>(
        &mut self,
        text: &'a str,
        channels: &Channels<String>,
        is_last: bool,
    ) -> Option<(usize, Option<Piece<'a>>)> {
        if text.is_empty() {
            return None;
        }
        let starts = [&channels.start, &channels.channel].map(|marker| begins(text, marker));
        if starts.contains(&Match::Yes) {
            self.at = At::Header;
            return Some((0, None));
        }
        if starts.contains(&Match::Maybe) && !is_last {
            return None;
        }
        // Another header without its first marker, or text.
        self.at = At::Header;
        Some((0, None))
    }
}

/// What the message with this header is.
fn message_of(header: &str, channels: &Channels<String>, tools: &[Tool]) -> Message {
    let recipient = header.find("to=functions.").map(|at| {
        let name = &header[at + "to=functions.".len()..];
        let end = name.find(|c: char| is_space(c) || c == '<' || c == MARK).unwrap_or(name.len());
        &name[..end]
    });
    if let Some(name) = recipient
        && is_offered(tools, name)
        && let Some(at) = tools.iter().position(|tool| tool.name == name)
    {
        return Message::Call(at);
    }
    let channel = header.find(channels.channel.as_str()).map(|at| &header[at + channels.channel.len()..]);
    if channel.is_some_and(|channel| channel.trim_start().starts_with("analysis")) {
        Message::Thoughts
    } else {
        Message::Text
    }
}
