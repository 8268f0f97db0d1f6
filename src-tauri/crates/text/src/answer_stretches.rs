//! Where, in a chat as its template wrote it, each earlier answer stands, as far as markers tell that.
//!
//! An answer was written after what its prompt ended with, and up to what ended the model's turn. Both are the
//! template's own tokens, which no client's text can become: where they stand again, an answer stands between them,
//! whatever it is made of. Where the template writes nothing before an answer, as some do after a call's result, one
//! stands between any of its tokens and the end of a turn, unless another's message does. Looking for them takes one way
//! through the text.
//!
//! ```text
//! the prompt's end      <|im_start|>assistant⏎<think>⏎
//! in a later prompt     <|im_start|>assistant⏎<think>⏎Hm.</think>It rains.<|im_end|>   it begins in thoughts
//! its thoughts left out <|im_start|>assistant⏎It rains.<|im_end|>                      it begins in text
//! ```

use std::ops::Range;

use crate::answer_form::{AnswerForm, Begins};
use crate::rendered_chat::{AnswerStretch, RenderedChat, SpecialToken};

/// What a special token is to a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It ends an answer.
    Ends,
    /// It stands within one.
    Within,
    /// It is of the template's structure, and of no answer.
    Around,
}

/// Finds the answers in a chat. `opening` is what the template writes before an answer, `opening_special` the special
/// tokens of that.
pub(crate) fn find(
    chat: &RenderedChat,
    (opening, opening_special): (&str, &[Range<usize>]),
    form: &AnswerForm,
    role: impl Fn(&SpecialToken) -> Role,
) -> Vec<AnswerStretch> {
    let mut stretches = after_openings(chat, (opening, opening_special), form, &role);
    let n = stretches.len();
    for other in between_others(chat, form, &role) {
        let next = stretches[..n].partition_point(|known| known.range.end <= other.range.start);
        let is_free = stretches[..n].get(next).is_none_or(|known| other.range.end <= known.range.start);
        if is_free && is_answer(chat, &other.range) {
            stretches.push(other);
        }
    }
    stretches.sort_by_key(|stretch| stretch.range.start);
    stretches.into_iter().flat_map(|stretch| own_words(chat, stretch, form)).collect()
}

/// What of a stretch is the model's, where a template writes a call's result and what follows it on into the same one:
/// up to the last token before the result, and from where an answer starts after it.
fn own_words(chat: &RenderedChat, stretch: AnswerStretch, form: &AnswerForm) -> Vec<AnswerStretch> {
    let (ends, starts) = (chat.message_ends(), chat.answer_starts());
    let AnswerStretch { range, mut begins } = stretch;
    let first_end = ends.partition_point(|&end| end <= range.start);
    let start_from = |at: usize| starts.get(starts.partition_point(|&start| start < at)).copied();
    let mut before = first_end.checked_sub(1).map_or(0, |last| ends[last]);
    let mut start = range.start;
    let mut stretches = Vec::new();
    for &end in ends[first_end..].iter().take_while(|&&end| end <= range.end) {
        // A message that ends here and is no answer is somebody else's.
        if start_from(before).is_none_or(|start| start >= end) {
            let n = chat.special.partition_point(|token| token.range.end <= end);
            let last = chat.special[..n].last().map_or(0, |token| token.range.end);
            stretches.push(AnswerStretch { range: start..last.max(before), begins });
            let Some(next) = start_from(end).filter(|&next| next < range.end) else {
                start = range.end;
                break;
            };
            start = next;
            begins = form.begins(&chat.text()[..start]);
        }
        before = end;
    }
    stretches.push(AnswerStretch { range: start..range.end, begins });
    stretches.retain(|stretch| !stretch.range.is_empty());
    stretches
}

/// Whether an answer stands there, by where messages end and answers start: one's text does, and no other message before
/// it, or none's does and it is not before all of them, where the template has words of its own.
fn is_answer(chat: &RenderedChat, range: &Range<usize>) -> bool {
    let first_within = |places: &[usize], from: usize, to: usize| {
        let first = places.partition_point(|&at| at < from);
        places.get(first).copied().filter(|&at| at < to)
    };
    let Some(first_end) = chat.message_ends().first() else { return false };
    match first_within(chat.answer_starts(), range.start, range.end) {
        Some(start) => first_within(chat.message_ends(), range.start + 1, start + 1).is_none(),
        None => {
            let end = first_within(chat.message_ends(), range.start + 1, range.end + 1);
            *first_end <= range.start && end.is_none()
        }
    }
}

/// Those that stand after what the template writes before an answer, if that has tokens of its own.
fn after_openings(
    chat: &RenderedChat,
    (opening, opening_special): (&str, &[Range<usize>]),
    form: &AnswerForm,
    role: &impl Fn(&SpecialToken) -> Role,
) -> Vec<AnswerStretch> {
    let (text, special) = (chat.text(), &chat.special[..]);
    let end_after = |from: usize| {
        let first = special.partition_point(|token| token.range.start < from);
        let end = special[first..].iter().find(|token| role(token) != Role::Within);
        end.map_or(text.len(), |token| token.range.start)
    };
    let plain = &opening[..form.begin_of_markers(opening)];
    let n_special = opening_special.partition_point(|range| range.end <= plain.len());
    let Some(first) = opening_special[..n_special].first() else { return Vec::new() };
    let is_special = |range: Range<usize>| {
        let found = special.binary_search_by_key(&range.start, |token| token.range.start);
        found.is_ok_and(|i| special[i].range == range)
    };
    let mut stretches = Vec::new();
    // Where its first special token stands; the next one can only come after that.
    for token in special {
        let Some(at) = token.range.start.checked_sub(first.start) else { continue };
        let is_here = text.get(at..).is_some_and(|here| here.starts_with(plain));
        let are_special =
            |ranges: &[Range<usize>]| ranges.iter().all(|range| is_special(at + range.start..at + range.end));
        if !is_here || !are_special(&opening_special[..n_special]) {
            continue;
        }
        let is_whole = text[at..].starts_with(opening) && are_special(opening_special);
        let start = at + if is_whole { opening.len() } else { plain.len() };
        let end = end_after(start);
        if start < end {
            stretches.push(stretch(text, form, (at, start, end)));
        }
    }
    stretches
}

/// The answer from `start` to `end`, which follows what stands from `before` on. Of thoughts that a template leaves out
/// it may leave the closing marker.
fn stretch(text: &str, form: &AnswerForm, (before, start, end): (usize, usize, usize)) -> AnswerStretch {
    let begins = form.begins(&text[before..start]);
    if begins == Begins::Text {
        let answer = &text[start..end];
        let n_space = answer.len() - answer.trim_start().len();
        let n_closing = form.closes_thoughts(&answer[n_space..]);
        if n_closing > 0 {
            return AnswerStretch { range: start + n_space + n_closing..end, begins: Begins::AfterThoughts };
        }
    }
    AnswerStretch { range: start..end, begins }
}

/// What stands between a token of the structure and one that ends an answer.
fn between_others(
    chat: &RenderedChat,
    form: &AnswerForm,
    role: &impl Fn(&SpecialToken) -> Role,
) -> Vec<AnswerStretch> {
    let text = chat.text();
    let mut start = 0;
    let mut stretches = Vec::new();
    for token in &chat.special {
        match role(token) {
            Role::Within => continue,
            Role::Ends if start < token.range.start => {
                stretches.push(stretch(text, form, (0, start, token.range.start)));
            }
            Role::Ends | Role::Around => {}
        }
        start = token.range.end;
    }
    stretches
}
