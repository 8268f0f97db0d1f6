//! A chat as the template wrote it, cut into what is structure and what is text.

use std::ops::Range;

use crate::TokenId;
use crate::answer_form::Begins;
use crate::chat_points::{ChatPoints, parting_place};
use crate::rendered_text::RenderedText;
use crate::special::SpecialTokens;

/// A rendered chat, or a raw prompt, that can be encoded piece by piece. Offsets are bytes of [`RenderedChat::text`].
#[derive(Debug, Clone)]
pub struct RenderedChat {
    text: String,
    /// Control and user-defined tokens, ascending; what lies between them is plain text.
    pub(crate) special: Vec<SpecialToken>,
    answer_starts: Vec<usize>,
    message_ends: Vec<usize>,
    points: ChatPoints,
    pub(crate) stretches: Vec<AnswerStretch>,
}

#[derive(Debug, Clone)]
pub(crate) struct SpecialToken {
    pub(crate) id: TokenId,
    pub(crate) range: Range<usize>,
}

/// An earlier answer in a rendered chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerStretch {
    /// From where its generation prompt ended to where the model's turn did.
    pub range: Range<usize>,
    /// In what it begins there.
    pub begins: Begins,
}

/// A piece of a rendered chat as tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedPiece {
    /// The tokens.
    pub tokens: Vec<TokenId>,
    /// How many of these tokens precede each end of a message's content that lies in the piece, ascending.
    pub message_ends: Vec<usize>,
    /// For each of the chat's points that lies in the piece, or at an edge of it: where in the text, and how many of these
    /// tokens precede it.
    pub points: Vec<(usize, usize)>,
}

impl RenderedChat {
    /// Takes the client's marks out of a rendering and finds its special tokens.
    pub(crate) fn new(rendered: &RenderedText, specials: &SpecialTokens) -> RenderedChat {
        let RenderedText { text, mark, landmarks, points, .. } = rendered;
        let marks: Vec<usize> =
            mark.map_or_else(Vec::new, |mark| text.match_indices(mark).map(|(at, _)| at).collect());
        let mark_bytes = mark.map_or(0, char::len_utf8);
        let unmarked = |at: usize| at - marks.partition_point(|&mark| mark < at) * mark_bytes;
        let special = specials
            .spans(text)
            .map(|(range, id)| SpecialToken { id, range: unmarked(range.start)..unmarked(range.end) });
        let special: Vec<SpecialToken> = special.collect();
        // They come from another process, which a template may have led astray.
        let places = |places: &[usize]| -> Vec<usize> {
            let sound = places.iter().copied().filter(|&at| text.is_char_boundary(at));
            let mut places: Vec<usize> = sound.map(unmarked).collect();
            places.sort_unstable();
            places
        };
        let plain = mark.map_or_else(|| text.clone(), |mark| text.replace(mark, ""));
        let special_ends: Vec<usize> = special.iter().map(|token| token.range.end).collect();
        let points = points.as_ref().map(|points| {
            points.map(|at| {
                let at = plain.floor_char_boundary(unmarked(at.min(text.len())));
                parting_place(&plain, &special_ends, at)
            })
        });
        RenderedChat {
            answer_starts: places(&landmarks.starts),
            message_ends: places(&landmarks.ends),
            points: points.unwrap_or_default(),
            special,
            text: plain,
            stretches: Vec::new(),
        }
    }

    /// A text that no template wrote.
    pub(crate) fn raw(text: &str, answer_starts: Vec<usize>, specials: &SpecialTokens) -> RenderedChat {
        let special = specials.spans(text).map(|(range, id)| SpecialToken { id, range }).collect();
        RenderedChat {
            text: text.to_owned(),
            special,
            answer_starts,
            message_ends: Vec::new(),
            points: ChatPoints::default(),
            stretches: Vec::new(),
        }
    }

    /// The text as the template writes it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the assistant's answers start, ascending; none of those that the template shows otherwise than they
    /// are.
    pub fn answer_starts(&self) -> &[usize] {
        &self.answer_starts
    }

    /// Earlier answers, ascending, as far as what stands around them tells where they are.
    pub fn stretches(&self) -> &[AnswerStretch] {
        &self.stretches
    }

    /// Where later prompts come back to it, where that was asked for. Up to each of these the tokens are what they are,
    /// whatever follows there.
    pub fn points(&self) -> &ChatPoints {
        &self.points
    }

    /// Where the contents of messages end, ascending.
    pub fn message_ends(&self) -> &[usize] {
        &self.message_ends
    }
}
