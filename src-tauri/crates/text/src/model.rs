//! The text side of one model: what engine and server hold.

mod chats;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use crate::answer_form::{AnswerForm, SpecialTexts};
use crate::answer_rules::AnswerRules;
use crate::chat_template::ChatTemplate;
use crate::constraint::factory::{ConstraintFactory, Words};
use crate::encoding::{EncodeError, EncodeLimits, Encoding};
use crate::rendered_chat::RenderedChat;
use crate::renderer::ChatRenderer;
use crate::special::{Part, SpecialTokens};
use crate::tokenizer::{Frame, Tokenizer};
use crate::vocabulary::Vocabulary;
use crate::{Constraint, ConstraintError, Detokenizer, OutputFormat, TextError, TextMetadata, TokenId};

/// Vocabulary and chat template of one model; built once, shared by all threads.
#[derive(Debug)]
pub struct TextModel {
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    /// Control and user-defined tokens: what a template or a raw prompt may contain as text.
    all_special: SpecialTokens,
    /// User-defined tokens only: what any text may contain.
    user_defined: SpecialTokens,
    /// The texts of tokens that have no bytes of their own.
    control_texts: HashMap<TokenId, Box<str>>,
    /// Bytes of text that one token stands for at most.
    longest_token: usize,
    frame: Frame,
    template: Option<Arc<ChatTemplate>>,
    /// What its answers are made of, where it can chat.
    answer_form: Option<Arc<AnswerForm>>,
    /// The control tokens that are markers in answers, as a reader of answers is shown them.
    markers: Arc<HashMap<TokenId, Box<str>>>,
    /// Compiled when somebody renders in this process.
    renderer: OnceLock<Result<ChatRenderer, TextError>>,
    /// What every chat of this model is dated by, wherever it is rendered.
    clock: fn() -> SystemTime,
    constraints: ConstraintFactory,
}

impl TextModel {
    /// Builds the vocabulary. The chat template is looked at when it is used.
    ///
    /// # Errors
    /// When the vocabulary is broken or of a kind that is not supported.
    pub fn new(meta: TextMetadata) -> Result<TextModel, TextError> {
        let (vocabulary, tokenizer, frame) = Tokenizer::new(&meta)?;
        let structural = vocabulary.structural();
        let user_defined = vocabulary.user_defined();
        let special_texts = structural.iter().chain(user_defined).map(|&id| meta.tokens[id as usize].len());
        let text_of = |id: Option<TokenId>| id.map(|id| meta.tokens[id as usize].clone());
        let special = SpecialTexts::new(&meta.tokens, &vocabulary);
        let answer_form = meta.chat_template.as_deref().map(|source| AnswerForm::new(source, &special));
        let markers = Arc::new(special.into_used());
        let texts_of = |ids: &[TokenId]| ids.iter().map(|&id| meta.tokens[id as usize].clone()).collect();
        let template = meta.chat_template.map(|source| {
            Arc::new(ChatTemplate {
                source,
                bos: text_of(vocabulary.bos),
                eos: text_of(vocabulary.eos),
                unk: text_of(vocabulary.unk),
                pad: text_of(vocabulary.pad),
                structural: texts_of(structural),
                user_defined: texts_of(user_defined),
            })
        });
        Ok(TextModel {
            all_special: SpecialTokens::new(&meta.tokens, [structural, user_defined].concat())?,
            user_defined: SpecialTokens::new(&meta.tokens, user_defined.to_vec())?,
            control_texts: structural
                .iter()
                .map(|&id| (id, meta.tokens[id as usize].as_str().into()))
                .collect(),
            longest_token: special_texts.fold(tokenizer.longest_token(), usize::max),
            frame,
            template,
            answer_form: answer_form.map(Arc::new),
            markers,
            renderer: OnceLock::new(),
            clock: SystemTime::now,
            constraints: ConstraintFactory::default(),
            vocabulary,
            tokenizer,
        })
    }

    /// The same with another clock than the system's for templates that write the date.
    #[must_use]
    pub fn with_clock(mut self, clock: fn() -> SystemTime) -> TextModel {
        self.clock = clock;
        self
    }

    /// The time that a chat is rendered at, wherever that happens: templates write the date.
    pub fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// Number of tokens in the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.vocabulary.n_tokens()
    }

    /// Tokens that these texts have at least, one after the other: their bytes are so many times the longest token.
    /// Takes no time to speak of.
    pub fn fewest_tokens<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> usize {
        let n_bytes: usize = texts.into_iter().map(|text| self.tokenizer.n_encodable(text)).sum();
        n_bytes.div_ceil(self.longest_token)
    }

    /// A raw prompt: BOS as the model wants it, special tokens written in the text are taken as such.
    /// A BOS that the text already starts with is not doubled, and an EOS is never added.
    pub fn encode_raw(&self, text: &str) -> Vec<TokenId> {
        self.encode_raw_within(text, EncodeLimits::NONE).expect("without limits it comes to the end")
    }

    /// The same within limits. Beside the text and its tokens it takes a few megabytes, however long the text is.
    ///
    /// # Errors
    /// More tokens would come than are of use, or nobody waits for them any more.
    pub fn encode_raw_within(
        &self,
        text: &str,
        limits: EncodeLimits<'_>,
    ) -> Result<Vec<TokenId>, EncodeError> {
        let mut encoding = Encoding::new(limits);
        self.encode_parts(text, &self.all_special, &mut encoding)?;
        Ok(self.with_bos(encoding.ids))
    }

    /// A text that nothing continues, as models that only read want it: like a raw prompt, with EOS and a separator after
    /// it where the model wants them and the text does not end in them.
    ///
    /// # Errors
    /// As [`TextModel::encode_raw_within`].
    pub fn encode_closed(&self, text: &str, limits: EncodeLimits<'_>) -> Result<Vec<TokenId>, EncodeError> {
        Ok(self.closed(self.encode_raw_within(text, limits)?))
    }

    /// The same of no more than `max_tokens` tokens: of a text that has more, those at its end are left out, as by
    /// [`TextModel::cut_closed`], and nothing is encoded that would be left out.
    ///
    /// # Errors
    /// Nobody waits for the tokens any more.
    pub fn encode_closed_cut(
        &self,
        text: &str,
        max_tokens: usize,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<Vec<TokenId>, EncodeError> {
        let mut encoding = Encoding::new(EncodeLimits { max_tokens, is_abandoned });
        match self.encode_parts(text, &self.all_special, &mut encoding) {
            Ok(()) | Err(EncodeError::TooLong { .. }) => {
                Ok(self.cut_closed(self.closed(self.with_bos(encoding.ids)), max_tokens))
            }
            Err(EncodeError::Abandoned) => Err(EncodeError::Abandoned),
        }
    }

    /// The first of these tokens, with those that close a text at their end still: no more than `max_tokens` in all.
    pub fn cut_closed(&self, mut ids: Vec<TokenId>, max_tokens: usize) -> Vec<TokenId> {
        if ids.len() <= max_tokens {
            return ids;
        }
        let mut n_left = ids.len();
        for id in self.closing().into_iter().rev() {
            n_left -= usize::from(ids[..n_left].last() == Some(&id));
        }
        let closing = ids.split_off(n_left.max(ids.len() - max_tokens));
        ids.truncate(max_tokens - closing.len());
        ids.extend(closing);
        ids
    }

    /// What closes a text, in this order.
    fn closing(&self) -> Vec<TokenId> {
        [self.frame.eos, self.frame.separator].into_iter().flatten().collect()
    }

    fn closed(&self, mut ids: Vec<TokenId>) -> Vec<TokenId> {
        for id in self.closing() {
            if ids.last() != Some(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// The same prompt, with the places in it where answers of the model start, so that it can be encoded in pieces
    /// by [`TextModel::encode_piece`].
    ///
    /// # Errors
    /// Its special tokens alone are more than `max_tokens`.
    pub fn raw_with_answers(
        &self,
        text: &str,
        answer_starts: Vec<usize>,
        max_tokens: usize,
    ) -> Result<RenderedChat, EncodeError> {
        // Each would take many times the memory of its text.
        let at_least = self.all_special.spans(text).take(max_tokens.saturating_add(1)).count();
        if at_least > max_tokens {
            return Err(EncodeError::TooLong { at_least });
        }
        Ok(RenderedChat::raw(text, answer_starts, &self.all_special))
    }

    /// The text of which [`TextModel::encode_raw`] makes these tokens, as far as there is one.
    pub fn raw_text(&self, ids: &[TokenId]) -> Vec<u8> {
        let has_bos = ids.first().is_some_and(|id| Some(*id) == self.frame.bos);
        let ids = if has_bos { &ids[1..] } else { ids };
        let adds_space = self.tokenizer.adds_space();
        let mut text = Vec::new();
        let mut after_special = true;
        for id in ids {
            if let Some(special) = self.control_texts.get(id) {
                text.extend_from_slice(special.as_bytes());
                after_special = true;
                continue;
            }
            let bytes = self.token_bytes(*id);
            let bytes =
                if after_special && adds_space { bytes.strip_prefix(b" ").unwrap_or(bytes) } else { bytes };
            text.extend_from_slice(bytes);
            after_special = self.vocabulary.user_defined().binary_search(id).is_ok();
        }
        text
    }

    /// Plain text: no BOS, no control token whatever the text says.
    pub fn encode_plain(&self, text: &str) -> Vec<TokenId> {
        let mut encoding = Encoding::new(EncodeLimits::NONE);
        let whole = self.encode_parts(text, &self.user_defined, &mut encoding);
        whole.expect("without limits it comes to the end");
        encoding.ids
    }

    /// A prompt's first tokens with BOS before them, where the model wants one and they have none.
    pub fn with_bos(&self, mut ids: Vec<TokenId>) -> Vec<TokenId> {
        if let Some(bos) = self.frame.bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        ids
    }

    /// Whether this token ends an answer.
    pub fn is_end_of_generation(&self, id: TokenId) -> bool {
        self.vocabulary.is_end_of_generation(id)
    }

    /// The bytes that a token stands for in text; none for control tokens and ids out of range.
    pub fn token_bytes(&self, id: TokenId) -> &[u8] {
        self.vocabulary.pieces.get(id)
    }

    /// The bytes that a token stands for in what a reader of answers is shown: markers that are control tokens have
    /// theirs, with the mark before them.
    pub fn shown_bytes(&self, id: TokenId) -> &[u8] {
        self.markers.get(&id).map_or_else(|| self.token_bytes(id), |text| text.as_bytes())
    }

    /// How a token is written that stands for structure and has no bytes in an answer's text; none for all others.
    pub fn control_text(&self, id: TokenId) -> Option<&str> {
        self.control_texts.get(&id).map(AsRef::as_ref)
    }

    /// A fresh detokenizer for text that follows `prompt_tail`.
    pub fn detokenizer(&self, prompt_tail: &[TokenId]) -> Detokenizer {
        Detokenizer::new(self.vocabulary.pieces.clone(), prompt_tail)
    }

    /// As [`TextModel::detokenizer`], for an [`AnswerReader`](crate::AnswerReader): with the control tokens that are
    /// markers in answers.
    pub fn detokenizer_with_markers(&self, prompt_tail: &[TokenId]) -> Detokenizer {
        self.detokenizer(prompt_tail).showing(Arc::clone(&self.markers))
    }

    /// What holds one answer to a format. The first call takes some hundred milliseconds, for it sorts the
    /// vocabulary; call it off the engine's thread.
    ///
    /// # Errors
    /// When the schema is wrong, too large or uses something that is not supported.
    pub fn constraint(&self, format: &OutputFormat) -> Result<Constraint, ConstraintError> {
        self.constraints.constraint(format, self.words())
    }

    /// What holds a chat's answer to its rules; nothing, where they leave it free. As [`TextModel::constraint`] in all
    /// else.
    ///
    /// # Errors
    /// When a schema is wrong, too large or uses something that is not supported.
    pub fn answer_constraint(&self, rules: &AnswerRules) -> Result<Option<Constraint>, ConstraintError> {
        let encode = |marker: &str| {
            let mut encoding = Encoding::new(EncodeLimits::NONE);
            for part in self.all_special.parts(marker) {
                // It stands in the middle of an answer: nothing has a space of its own before it.
                encoding.after_special = false;
                match part {
                    Part::Token(id) => encoding.push_special(id),
                    Part::Text(text) => {
                        self.tokenizer
                            .encode(text, &mut encoding)
                            .expect("without limits it comes to the end");
                    }
                }
            }
            encoding.ids
        };
        let around = rules.form.around_thoughts_in_prompts();
        let around = around.map(|(open, close)| (encode(&open), encode(&close))).unwrap_or_default();
        self.constraints.answer(rules, (&around.0, &around.1), self.words())
    }

    fn words(&self) -> Words<'_> {
        Words { vocabulary: &self.vocabulary, markers: &self.markers }
    }

    fn encode_parts(
        &self,
        text: &str,
        special: &SpecialTokens,
        encoding: &mut Encoding<'_>,
    ) -> Result<(), EncodeError> {
        encoding.go_on(0)?;
        for part in special.parts(text) {
            match part {
                Part::Token(id) => {
                    encoding.push_special(id);
                    // More than the text of most; only how soon the next question comes depends on it.
                    encoding.go_on(64)?;
                }
                Part::Text(text) => {
                    self.tokenizer.encode(text, encoding)?;
                    encoding.after_special = false;
                }
            }
        }
        Ok(())
    }
}
