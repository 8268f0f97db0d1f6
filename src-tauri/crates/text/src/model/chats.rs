//! The chats of a model: rendered, with the places of their answers, and encoded in pieces.

use std::ops::Range;
use std::sync::Arc;

use super::TextModel;
use crate::answer_form::AnswerForm;
use crate::answer_parts::AnswerReading;
use crate::answer_stretches::{Role, find};
use crate::chat_points::Asked;
use crate::chat_template::ChatTemplate;
use crate::encoding::{EncodeError, EncodeLimits, Encoding};
use crate::marked_text::MarkedText;
use crate::rendered_chat::{AnswerStretch, EncodedPiece, RenderedChat, SpecialToken};
use crate::rendered_text::RenderedText;
use crate::renderer::ChatRenderer;
use crate::{Chat, TextError, TokenId, Tool};

impl TextModel {
    /// Whether the model can chat.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// What rendering this model's chats needs, for a process that may fail at it.
    pub fn chat_template(&self) -> Option<&Arc<ChatTemplate>> {
        self.template.as_ref()
    }

    /// A chat that was rendered elsewhere, by [`TextModel::chat_template`], so that it can be encoded in pieces by
    /// [`TextModel::encode_piece`].
    pub fn rendered_chat(&self, rendered: &RenderedText) -> RenderedChat {
        let mut chat = RenderedChat::new(rendered, &self.all_special);
        if let (Some(form), Some(opening)) = (&self.answer_form, &rendered.opening) {
            chat.stretches = self.stretches(&chat, opening, form);
        }
        chat
    }

    fn stretches(&self, chat: &RenderedChat, opening: &str, form: &AnswerForm) -> Vec<AnswerStretch> {
        let opening_special: Vec<Range<usize>> =
            self.all_special.spans(opening).map(|(range, _)| range).collect();
        let message_ends = form.message_ends();
        let role = |token: &SpecialToken| {
            let text = &chat.text()[token.range.clone()];
            let is_end = match message_ends.is_empty() {
                true => self.is_end_of_generation(token.id),
                false => message_ends.iter().any(|end| end == text),
            };
            match token.id {
                _ if is_end => Role::Ends,
                id if self.control_texts.contains_key(&id) && !self.markers.contains_key(&id) => Role::Around,
                _ => Role::Within,
            }
        };
        find(chat, (opening, &opening_special), form, role)
    }

    /// A rendered chat with the mark before each marker of answers, as [`TextModel::shown_bytes`] has them; none where
    /// a client's text has the mark.
    pub fn marked(&self, chat: &RenderedChat) -> Option<MarkedText> {
        let markers = chat.special.iter().filter(|token| self.markers.contains_key(&token.id));
        MarkedText::new(chat.text(), markers.map(|token| token.range.start).collect())
    }

    /// How an answer to this chat is read that may call `tools`; none where the model has no chat template.
    pub fn answer_reading(
        &self,
        chat: &RenderedChat,
        tools: Arc<[Tool]>,
        in_words: bool,
    ) -> Option<AnswerReading> {
        let form = self.answer_form.as_ref()?;
        let begins = form.begins(chat.text());
        let form = if in_words { Arc::new(form.as_ref().clone().in_words()) } else { Arc::clone(form) };
        Some(AnswerReading { form, tools, begins })
    }

    /// Renders the chat in this process and encodes it.
    ///
    /// Special tokens written in the client's values stay plain text. A chat without such text gives exactly
    /// the tokens of the rendered string.
    ///
    /// # Errors
    /// As [`TextModel::render`].
    pub fn encode_chat(&self, chat: &Chat) -> Result<Vec<TokenId>, TextError> {
        let rendered = self.rendered_chat(&self.render(chat)?);
        let piece = self.encode_piece(&rendered, 0..rendered.text().len(), EncodeLimits::NONE);
        Ok(self.with_bos(piece.expect("without limits it comes to the end").tokens))
    }

    /// Renders the chat in this process and finds where its answers start and its messages end, so that it can be
    /// encoded in pieces by [`TextModel::encode_piece`].
    ///
    /// # Errors
    /// As [`TextModel::render`].
    pub fn render_with_landmarks(&self, chat: &Chat) -> Result<RenderedChat, TextError> {
        Ok(self.rendered_chat(&self.render(chat)?))
    }

    /// Encodes the bytes `piece` of a rendered chat, without BOS but for one that the template writes. A special
    /// token that the piece cuts is plain text, and so is all of the client's. Beside the text and its tokens it
    /// takes a few megabytes, however long the text is.
    ///
    /// # Errors
    /// More tokens would come than are of use, or nobody waits for them any more.
    ///
    /// # Panics
    /// When the piece is out of bounds or ends within a character.
    pub fn encode_piece(
        &self,
        chat: &RenderedChat,
        piece: Range<usize>,
        limits: EncodeLimits<'_>,
    ) -> Result<EncodedPiece, EncodeError> {
        let mut encoding = Encoding::new(limits);
        let first = chat.special.partition_point(|token| token.range.start < piece.start);
        encoding.after_special = piece.start == 0
            || first.checked_sub(1).is_some_and(|i| chat.special[i].range.end == piece.start);
        let first_end = chat.message_ends().partition_point(|end| *end < piece.start);
        let mut ends = chat.message_ends()[first_end..].iter().copied().peekable();
        let mut message_ends = Vec::new();
        let mut places: Vec<usize> =
            chat.points().places().filter(|at| (piece.start..=piece.end).contains(at)).collect();
        places.sort_unstable();
        places.dedup();
        let mut places = places.into_iter().peekable();
        let mut points = Vec::new();
        let mut done = piece.start;
        let whole = chat.special[first..].iter().take_while(|token| token.range.end <= piece.end);
        for token in whole.map(Some).chain([None]) {
            let next = token.map_or(piece.end, |token| token.range.start);
            let n_before = encoding.ids.len();
            if done < next {
                self.encode_parts(&chat.text()[done..next], &self.user_defined, &mut encoding)?;
            }
            let mut spelt = (n_before, 0);
            while let Some(end) = ends.next_if(|end| *end <= next) {
                spelt = self.spell(&encoding.ids, spelt, end - done);
                message_ends.push(spelt.0);
            }
            let mut spelt = (n_before, 0);
            while let Some(place) = places.next_if(|place| *place <= next) {
                spelt = self.spell(&encoding.ids, spelt, place - done);
                points.push((place, spelt.0));
            }
            if let Some(token) = token {
                encoding.push_special(token.id);
                encoding.go_on(token.range.len())?;
                done = token.range.end;
            }
        }
        Ok(EncodedPiece { tokens: encoding.ids, message_ends, points })
    }

    /// The chat as the template writes it, for inspection.
    ///
    /// # Errors
    /// As [`TextModel::render`].
    pub fn render_chat(&self, chat: &Chat) -> Result<String, TextError> {
        Ok(self.render(chat)?.plain())
    }

    /// Renders the chat in this process: for templates that are trusted with its stack and memory, as those of tests
    /// and benchmarks are. A server renders in another, see `render_worker.rs`.
    ///
    /// # Errors
    /// When there is no template, when it does not compile, refuses the messages, fails, or goes over its limits.
    pub fn render(&self, chat: &Chat) -> Result<RenderedText, TextError> {
        self.render_asked(chat, Asked::Text)
    }

    /// The same, with what else is `asked` for.
    ///
    /// # Errors
    /// As [`TextModel::render`].
    pub fn render_asked(&self, chat: &Chat, asked: Asked) -> Result<RenderedText, TextError> {
        let template = self.template.as_ref().ok_or(TextError::NoChatTemplate)?;
        let renderer = self.renderer.get_or_init(|| ChatRenderer::new(template));
        renderer.as_ref().map_err(Clone::clone)?.render_asked(chat, self.now(), asked)
    }

    /// What this model's answers are made of; none where it has no chat template.
    pub fn answer_form(&self) -> Option<&Arc<AnswerForm>> {
        self.answer_form.as_ref()
    }

    /// Goes on from (tokens, bytes that those after the first few spell) to as many tokens as spell `n_bytes`.
    fn spell(&self, ids: &[TokenId], from: (usize, usize), n_bytes: usize) -> (usize, usize) {
        let (mut n_tokens, mut n_spelt) = from;
        while let Some(&id) = ids.get(n_tokens) {
            let n = self.token_bytes(id).len();
            if n_spelt + n > n_bytes {
                break;
            }
            (n_tokens, n_spelt) = (n_tokens + 1, n_spelt + n);
        }
        (n_tokens, n_spelt)
    }
}
