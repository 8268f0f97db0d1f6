//! Generated answers, remembered so that their ids are taken again when a client sends back what they say.
//!
//! What text would tokenise to need not be what was generated: sampling picks other splits, a stop string cuts a
//! token, a template trims, and calls come back in another order of keys. The lookup is by content: by the value of
//! an answer's parts, see `kept_parts.rs`, and, for an answer to the very same tokens, by its bytes as far as they are
//! the same, see `scheduler::AnswerIndex`. In a raw prompt that goes on with an answer, `scheduler::AnswerStarts` finds
//! where it starts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler::{
    AnswerIndex, AnswerStarts, AnswerToken, PrefixTrail, Splice, SpliceStart, StatePoints, TokenId,
    splice_prompt,
};
use text::{
    AnswerParts, AnswerReading, Chat, ChatPoints, EncodeError, EncodeLimits, MarkedText, RenderedChat,
    TextModel,
};

use super::kept_parts::{KeptParts, RunStart};
use super::sent_answers::SentAnswer;
use crate::told::card::{COUNTED, ModelCard};
use crate::told::prompt::{ChatFacts, EncodedPrompt, PromptError, PromptNotes};
use crate::told::prompt_map::{MappedPiece, PromptMap};

/// Ids and bytes of answers that are remembered; a conversation of 1,000 answered tokens takes some 20 kB.
const MAX_BYTES: usize = 32 << 20;
/// Ids and parts of answers, and digests of what came before them.
const MAX_BYTES_OF_PARTS: usize = 32 << 20;

/// The answers of one model.
pub(crate) struct Answers {
    fingerprint: [u8; 32],
    text: Arc<TextModel>,
    /// Guards the answers between the engine thread, which records one that has ended, and those who encode
    /// prompts; held for one lookup or one record, never while a text is tokenised or read.
    remembered: Mutex<Remembered>,
}

struct Remembered {
    index: AnswerIndex,
    starts: AnswerStarts,
    parts: KeptParts,
}

impl Answers {
    /// None yet, of a model with this fingerprint and vocabulary.
    pub(crate) fn new(fingerprint: [u8; 32], text: Arc<TextModel>) -> Answers {
        let remembered = Mutex::new(Remembered {
            index: AnswerIndex::new(fingerprint, MAX_BYTES),
            starts: AnswerStarts::default(),
            parts: KeptParts::new(MAX_BYTES_OF_PARTS),
        });
        Answers { fingerprint, text, remembered }
    }

    /// Whose answers these are.
    pub(crate) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The vocabulary that they are written in.
    pub(crate) fn text(&self) -> &TextModel {
        &self.text
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remember what was generated after exactly `before`, and, where it is known how it is read, its parts.
    pub(crate) fn record(&self, before: &[TokenId], answer: &[TokenId], reading: Option<&AnswerReading>) {
        let text_before = self.text.raw_text(before);
        let text_of_answer: Vec<u8> =
            answer.iter().flat_map(|id| self.text.token_bytes(*id)).copied().collect();
        let token = |&id: &TokenId| AnswerToken { id, bytes: self.text.shown_bytes(id).to_vec() };
        let tokens: Vec<AnswerToken> = answer.iter().map(token).collect();
        let parts = reading.and_then(|reading| self.parts(answer, reading));
        let trail = PrefixTrail::of(self.fingerprint, before);
        let mut remembered = self.remembered();
        remembered.index.record(before, &tokens);
        remembered.starts.record(&text_before, &text_of_answer);
        if let Some((parts, ends)) = parts {
            remembered.parts.record(&trail, answer, &ends, &parts);
        }
    }

    /// An answer's parts, and where in its text, as a reader is shown it, its tokens end. What is no text has none.
    fn parts(&self, answer: &[TokenId], reading: &AnswerReading) -> Option<(AnswerParts, Vec<usize>)> {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(answer.len());
        for id in answer {
            bytes.extend_from_slice(self.text.shown_bytes(*id));
            ends.push(bytes.len());
        }
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            // Cut by its length, it may end within a character.
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
            }
            Err(_) => return None,
        };
        Some((reading.parts(text), ends))
    }

    /// Render and tokenise a chat, as long as it fits the effective context and is not abandoned.
    ///
    /// # Errors
    /// It cannot be rendered or is too long, or nobody waits for it.
    pub(crate) fn encode_chat(
        &self,
        card: &ModelCard,
        chat: &Chat,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        let rendered = card.text.render_asked(chat, card.asked())?;
        let has_tools_in_words = rendered.has_tools_in_words();
        let rendered = card.text.rendered_chat(&rendered);
        let reading = card.text.answer_reading(&rendered, chat.tools.as_slice().into(), has_tools_in_words);
        let messages = ChatFacts::outline(&chat.messages);
        let facts = ChatFacts { reading, messages, has_tools_in_words };
        self.encode_rendered(card, &rendered, facts, is_abandoned)
    }

    /// Tokenise a rendered chat, of which these `facts` are known, within the same limits.
    ///
    /// # Errors
    /// It is too long, or nobody waits for it.
    pub(crate) fn encode_rendered(
        &self,
        card: &ModelCard,
        rendered: &RenderedChat,
        facts: ChatFacts,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        self.splice(card, rendered, facts, is_abandoned)
    }

    /// Tokenise a raw prompt, in which special tokens may be written, within the same limits.
    ///
    /// # Errors
    /// It is too long, or nobody waits for it.
    pub(crate) fn encode_raw(
        &self,
        card: &ModelCard,
        text: &str,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        card.check_length([text])?;
        let starts = self.remembered().starts.find(text.as_bytes());
        let limits = EncodeLimits { max_tokens: card.effective_context.max(COUNTED), is_abandoned };
        if starts.is_empty() {
            let tokens = card.text.encode_raw_within(text, limits);
            let tokens = tokens.map_err(|error| card.prompt_error(error))?;
            return Ok(EncodedPrompt { tokens, notes: PromptNotes::default() });
        }
        let rendered = card.text.raw_with_answers(text, starts, limits.max_tokens);
        let rendered = rendered.map_err(|error| card.prompt_error(error))?;
        self.splice(card, &rendered, ChatFacts::default(), is_abandoned)
    }

    fn splice(
        &self,
        card: &ModelCard,
        rendered: &RenderedChat,
        facts: ChatFacts,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<EncodedPrompt, PromptError> {
        let ChatFacts { reading, messages, has_tools_in_words } = facts;
        card.check_length([rendered.text()])?;
        let most = card.effective_context.max(COUNTED);
        let marked = card.text.marked(rendered);
        let sent = match (&marked, &reading) {
            (Some(marked), Some(reading)) => SentAnswer::all_of(rendered, marked, reading, &messages),
            _ => Vec::new(),
        };
        let mut message_ends = Vec::new();
        let mut places = Places::default();
        let mut pieces = Vec::new();
        let spliced = splice_prompt(
            card.fingerprint,
            rendered.text(),
            &self.starts(rendered, &sent),
            &mut |range, n_before| {
                let limits = EncodeLimits { max_tokens: most.saturating_sub(n_before), is_abandoned };
                let piece = card.text.encode_piece(rendered, range.clone(), limits);
                let mut piece = piece.map_err(|error| match error {
                    EncodeError::TooLong { at_least } => {
                        EncodeError::TooLong { at_least: n_before + at_least }
                    }
                    EncodeError::Abandoned => error,
                })?;
                let n_own = piece.tokens.len();
                if n_before == 0 {
                    piece.tokens = card.text.with_bos(piece.tokens);
                }
                let n_before = n_before + piece.tokens.len() - n_own;
                message_ends.extend(piece.message_ends.iter().map(|n| n_before + n));
                places.note(&piece.points, n_before, (range.end, n_before + n_own));
                pieces.push(MappedPiece { tokens: n_before..n_before + n_own, text: range });
                Ok(piece.tokens)
            },
            &mut |before, at| self.find(marked.as_ref()?, &sent, before, at),
        );
        let spliced = spliced.map_err(|error| card.prompt_error(error))?;
        message_ends.extend(spliced.answer_positions);
        message_ends.sort_unstable();
        message_ends.dedup();
        let tools = reading.as_ref().map(|reading| &*reading.tools).unwrap_or_default();
        // Of what was put into words it is not known which message has become which.
        let map = match has_tools_in_words {
            true => None,
            false => PromptMap::new(rendered, messages, tools, pieces),
        };
        Ok(EncodedPrompt {
            tokens: spliced.tokens,
            notes: PromptNotes {
                message_ends,
                state_points: places.state_points(rendered.points()),
                n_spliced: spliced.n_spliced,
                spliced: spliced.spliced,
                map: map.map(Arc::new),
                reading: reading.map(Arc::new),
                ..PromptNotes::default()
            },
        })
    }

    /// Where generated ids may stand, ascending.
    fn starts(&self, rendered: &RenderedChat, sent: &[SentAnswer]) -> Vec<SpliceStart> {
        let mut starts: Vec<SpliceStart> =
            rendered.answer_starts().iter().map(|at| SpliceStart::Answer(*at)).collect();
        let remembered = self.remembered();
        for answer in sent {
            starts.extend(answer.starts(|part| remembered.parts.has_run_from(part)));
        }
        drop(remembered);
        starts.sort_by_key(|start| (start.at(), matches!(start, SpliceStart::Within(_))));
        starts.dedup_by_key(|start| start.at());
        starts
    }

    /// The ids that the text from `at` on was generated as.
    fn find(
        &self,
        marked: &MarkedText,
        sent: &[SentAnswer],
        before: &PrefixTrail,
        at: usize,
    ) -> Option<Splice> {
        let key = before.key();
        let by_value = SentAnswer::at(sent, at).and_then(|(answer, from)| {
            if from == RunStart::Answer {
                self.read_recalled(before, &answer.reading);
            }
            let run = self.remembered().parts.find(before, &answer.parts, from)?;
            let n_bytes = answer.n_bytes(at, from, &run)?;
            Some((run.is_exact, Splice { tokens: run.ids, n_bytes }))
        });
        let start = marked.with_marks(at);
        let by_bytes = self.remembered().index.splice(&key, &marked.text().as_bytes()[start..]);
        let by_bytes = by_bytes.map(|splice| {
            let end = marked.without_marks(start + splice.n_bytes);
            Splice { n_bytes: end.saturating_sub(at), ..splice }
        });
        match (by_value, by_bytes) {
            // As much as can be had, and of as much what was generated after these very tokens.
            (Some((is_exact, value)), Some(bytes)) => {
                let is_value = value.n_bytes > bytes.n_bytes || is_exact && value.n_bytes == bytes.n_bytes;
                Some(if is_value { value } else { bytes })
            }
            (value, bytes) => value.map(|(_, value)| value).or(bytes),
        }
    }

    /// Of answers that were recalled from disk it is not known which tools they could call, until somebody sends them
    /// back: then they are read as what is sent is.
    fn read_recalled(&self, before: &PrefixTrail, reading: &AnswerReading) {
        let key = before.key();
        let remembered = self.remembered();
        let recalled = if remembered.parts.knows(&key) { Vec::new() } else { remembered.index.after(&key) };
        drop(remembered);
        for ids in recalled {
            if let Some((parts, ends)) = self.parts(&ids, reading) {
                self.remembered().parts.record(before, &ids, &ends, &parts);
            }
        }
    }
}

/// How many tokens precede places of a prompt's text, as it is put together from pieces and answers.
#[derive(Debug, Default)]
struct Places {
    /// Bytes of the text, and tokens before them, ascending: the points that pieces have, and where pieces end.
    known: Vec<(usize, usize)>,
}

impl Places {
    /// Note a piece that follows `n_before` tokens: its points, and its end.
    fn note(&mut self, points: &[(usize, usize)], n_before: usize, end: (usize, usize)) {
        self.known.extend(points.iter().map(|(at, n)| (*at, n_before + n)));
        self.known.push(end);
    }

    /// The points as positions in tokens. One within an answer that was put in place is where that answer starts.
    fn state_points(&self, points: &ChatPoints) -> StatePoints {
        let position = |at: usize| {
            let n_before = self.known.partition_point(|(known, _)| *known <= at);
            let (_, n_tokens) = self.known.get(n_before.checked_sub(1)?)?;
            Some(*n_tokens).filter(|n| *n > 0)
        };
        StatePoints {
            system_end: points.system_end.and_then(position),
            return_point: points.return_point.and_then(position),
            generation_start: points.generation_start.and_then(position),
        }
    }
}
