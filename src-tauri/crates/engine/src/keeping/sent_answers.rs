//! The earlier answers in a rendered chat, read back as the parts that they are made of.

use std::ops::Range;
use std::sync::Arc;

use scheduler::SpliceStart;
use text::{AnswerReading, MarkedText, RenderedChat};

use super::kept_parts::{Run, RunStart, SentPart, SentParts};
use crate::told::prompt_map::MessageOutline;

/// An earlier answer as a client sent it and a template wrote it.
#[derive(Debug)]
pub(super) struct SentAnswer {
    /// How it is read there.
    pub(super) reading: AnswerReading,
    pub(super) parts: SentParts,
    range: Range<usize>,
    /// Where each part stands.
    spans: Vec<Range<usize>>,
}

impl SentAnswer {
    /// Those of a chat of these `messages` whose new answer is read as `reading` says. Takes linear time.
    pub(super) fn all_of(
        rendered: &RenderedChat,
        marked: &MarkedText,
        reading: &AnswerReading,
        messages: &[MessageOutline],
    ) -> Vec<SentAnswer> {
        let stretches = rendered.stretches();
        let answers: Vec<&MessageOutline> = messages.iter().filter(|message| message.is_answer()).collect();
        // A template may have chosen one of two values for a key, which is not what was sent.
        let is_ambiguous = |n: usize| answers.len() == stretches.len() && answers[n].has_key_twice;
        let stretches = stretches.iter().enumerate().filter(|(n, _)| !is_ambiguous(*n));
        stretches
            .map(|(_, stretch)| {
                let reading = AnswerReading {
                    form: Arc::clone(&reading.form),
                    tools: Arc::clone(&reading.tools),
                    begins: stretch.begins,
                };
                let start = marked.with_marks(stretch.range.start);
                let read = reading.parts(&marked.text()[start..marked.with_marks(stretch.range.end)]);
                let place = |at: usize| marked.without_marks(start + at);
                let spans = read.parts.iter().map(|part| place(part.span.start)..place(part.span.end));
                let spans = spans.collect();
                let parts =
                    read.parts.into_iter().map(|part| SentPart { digest: part.digest(), glue: part.glue });
                let parts = SentParts { parts: parts.collect(), rest: read.rest };
                SentAnswer { reading, parts, range: stretch.range.clone(), spans }
            })
            .collect()
    }

    /// Where generated ids may stand: at its start, and at parts that `has_run_from` knows.
    pub(super) fn starts(
        &self,
        has_run_from: impl Fn(&SentPart) -> bool,
    ) -> impl Iterator<Item = SpliceStart> {
        let parts = self.spans.iter().zip(&self.parts.parts);
        let within = parts.filter(move |(span, part)| span.start > self.range.start && has_run_from(part));
        let within = within.map(|(span, _)| SpliceStart::Within(span.start));
        std::iter::once(SpliceStart::Answer(self.range.start)).chain(within)
    }

    /// The answer that stands at a place of the text, and where in it that is.
    pub(super) fn at(answers: &[SentAnswer], at: usize) -> Option<(&SentAnswer, RunStart)> {
        let n = answers.partition_point(|answer| answer.range.start <= at);
        let answer = answers[..n].last()?;
        if answer.range.start == at {
            return Some((answer, RunStart::Answer));
        }
        let part = answer.spans.binary_search_by_key(&at, |span| span.start).ok()?;
        Some((answer, RunStart::Part(part)))
    }

    /// How many bytes of the text from `at` on a run stands for that was found there; none where something else stands
    /// before its first part.
    pub(super) fn n_bytes(&self, at: usize, from: RunStart, run: &Run) -> Option<usize> {
        let begins = match from {
            RunStart::Answer if run.from_start => self.range.start,
            RunStart::Answer => self.spans.first()?.start,
            RunStart::Part(part) => self.spans.get(part)?.start,
        };
        let end = if run.to_end { self.range.end } else { self.spans.get(run.last)?.end };
        (begins == at).then(|| end.saturating_sub(at)).filter(|n| *n > 0)
    }
}
