//! Which kinds of vocabularies there are, and what each makes of a stretch of text.

use crate::byte_pair::BytePair;
use crate::encoding::{EncodeError, Encoding};
use crate::pre_tokenizer::PreTokenizer;
use crate::recipes::{Bos, Cutting, Recipe};
use crate::sentence_piece::SentencePiece;
use crate::spaced_byte_pair::SpacedBytePair;
use crate::vocabulary::{TextForm, Vocabulary};
use crate::word_piece::WordPiece;
use crate::{TextError, TextMetadata, TokenId};

/// The kinds that `tokenizer.ggml.model` may name.
const KINDS: &[&str] = &["gpt2", "gemma4", "llama", "bert"];

/// How text becomes tokens of one vocabulary.
#[derive(Debug)]
pub(crate) enum Tokenizer {
    BytePair(Box<BytePair>),
    SpacedBytePair(Box<SpacedBytePair>),
    SentencePiece(Box<SentencePiece>),
    WordPiece(Box<WordPiece>),
}

/// What stands before and after a whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) bos: Option<TokenId>,
    /// After a text that nothing continues.
    pub(crate) eos: Option<TokenId>,
    /// The same; only `bert` vocabularies have one.
    pub(crate) separator: Option<TokenId>,
}

impl Tokenizer {
    /// Reads the kind of vocabulary that the metadata names.
    ///
    /// # Errors
    /// When it is of no known kind, asks for what that kind does not do, or is broken.
    pub(crate) fn new(meta: &TextMetadata) -> Result<(Vocabulary, Tokenizer, Frame), TextError> {
        meta.check_size()?;
        match meta.tokenizer_model.as_str() {
            kind @ ("gpt2" | "gemma4") => {
                let pre = if kind == "gemma4" { kind } else { meta.pre.as_deref().unwrap_or("default") };
                Tokenizer::byte_pair(meta, Recipe::named(pre)?)
            }
            "llama" => {
                honour(meta, WhiteSpace::Escaped)?;
                let vocabulary = Vocabulary::new(meta, TextForm::SentencePiece)?;
                let pieces = SentencePiece::new(meta, &vocabulary)?;
                let frame = Frame::new(meta, &vocabulary, Bos::ByDefault);
                Ok((vocabulary, Tokenizer::SentencePiece(Box::new(pieces)), frame))
            }
            "bert" => {
                honour(meta, WhiteSpace::Escaped)?;
                let vocabulary = Vocabulary::new(meta, TextForm::WordPiece)?;
                let pieces = WordPiece::new(meta, &vocabulary)?;
                let frame = Frame::new(meta, &vocabulary, Bos::Always);
                Ok((vocabulary, Tokenizer::WordPiece(Box::new(pieces)), frame))
            }
            other => Err(TextError::Unsupported(format!(
                "its kind {other:?} (tokenizer.ggml.model) is none of those known: {}",
                KINDS.join(", ")
            ))),
        }
    }

    fn byte_pair(meta: &TextMetadata, recipe: &Recipe) -> Result<(Vocabulary, Tokenizer, Frame), TextError> {
        let (vocabulary, tokenizer) = match recipe.cutting {
            Cutting::Words(rules) => {
                honour(meta, WhiteSpace::AsItIs)?;
                let vocabulary = Vocabulary::new(meta, TextForm::ByteLevel)?;
                let splitter = PreTokenizer::new(rules)?;
                let byte_pair = BytePair::new(meta, &vocabulary, splitter, recipe.whole_words)?;
                (vocabulary, Tokenizer::BytePair(Box::new(byte_pair)))
            }
            Cutting::Lines { takes_breaks_whole } => {
                honour(meta, WhiteSpace::Escaped)?;
                let vocabulary = Vocabulary::new(meta, TextForm::SpacedBytePair)?;
                let byte_pair = SpacedBytePair::new(meta, &vocabulary, takes_breaks_whole)?;
                (vocabulary, Tokenizer::SpacedBytePair(Box::new(byte_pair)))
            }
        };
        let frame = Frame::new(meta, &vocabulary, recipe.bos);
        Ok((vocabulary, tokenizer, frame))
    }

    /// Encodes one stretch of text without special tokens.
    pub(crate) fn encode(&self, text: &str, encoding: &mut Encoding<'_>) -> Result<(), EncodeError> {
        match self {
            Tokenizer::BytePair(byte_pair) => byte_pair.encode(text, encoding),
            Tokenizer::SpacedBytePair(byte_pair) => byte_pair.encode(text, encoding),
            Tokenizer::SentencePiece(pieces) => pieces.encode(text, encoding),
            Tokenizer::WordPiece(pieces) => pieces.encode(text, encoding),
        }
    }

    /// Bytes that one token stands for at most.
    pub(crate) fn longest_token(&self) -> usize {
        match self {
            Tokenizer::BytePair(byte_pair) => byte_pair.longest_token(),
            Tokenizer::SpacedBytePair(byte_pair) => byte_pair.longest_token(),
            Tokenizer::SentencePiece(pieces) => pieces.longest_token(),
            // Whatever a word is, it may be unknown.
            Tokenizer::WordPiece(_) => usize::MAX,
        }
    }

    /// Bytes of a text that become tokens, or fewer where that takes long to say.
    pub(crate) fn n_encodable(&self, text: &str) -> usize {
        match self {
            Tokenizer::BytePair(byte_pair) => byte_pair.n_encodable(text),
            Tokenizer::SpacedBytePair(byte_pair) => byte_pair.n_encodable(text),
            Tokenizer::SentencePiece(pieces) => pieces.n_encodable(text),
            Tokenizer::WordPiece(_) => 0,
        }
    }

    /// Whether the first token of a stretch of text spells a space that the text has not.
    pub(crate) fn adds_space(&self) -> bool {
        match self {
            Tokenizer::BytePair(_) | Tokenizer::SpacedBytePair(_) => false,
            Tokenizer::SentencePiece(pieces) => pieces.adds_space_prefix(),
            Tokenizer::WordPiece(_) => true,
        }
    }
}

impl Frame {
    fn new(meta: &TextMetadata, vocabulary: &Vocabulary, bos: Bos) -> Frame {
        let adds_bos = match bos {
            Bos::IfAsked => meta.add_bos.unwrap_or(false),
            Bos::ByDefault => meta.add_bos.unwrap_or(true),
            Bos::Always => true,
        };
        let adds_eos = meta.add_eos.unwrap_or(false);
        Frame {
            bos: vocabulary.bos.filter(|_| adds_bos),
            eos: vocabulary.eos.filter(|_| adds_eos),
            separator: vocabulary.separator,
        }
    }
}

/// What a kind of vocabulary does to spaces before it merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhiteSpace {
    AsItIs,
    Escaped,
}

/// Refuses what a file asks for that its kind of vocabulary does not do: other tokens than the model learnt would come of
/// leaving it out.
fn honour(meta: &TextMetadata, white_space: WhiteSpace) -> Result<(), TextError> {
    let escapes = white_space == WhiteSpace::Escaped;
    refuse(
        meta.escape_whitespaces.is_some_and(|asked| asked != escapes),
        if escapes {
            "tokenizer.ggml.escape_whitespaces is false"
        } else {
            "tokenizer.ggml.escape_whitespaces is true"
        },
    )?;
    refuse(meta.remove_extra_whitespaces == Some(true), "tokenizer.ggml.remove_extra_whitespaces is true")?;
    refuse(meta.has_charsmap, "it has a tokenizer.ggml.precompiled_charsmap")
}

fn refuse(is_asked: bool, what: &str) -> Result<(), TextError> {
    if is_asked {
        return Err(TextError::Unsupported(format!("{what}, which its kind does not know")));
    }
    Ok(())
}
