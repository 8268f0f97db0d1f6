//! The tokens of a model: their kinds, their bytes, and which of them have a meaning beyond text.

use std::collections::HashSet;
use std::sync::Arc;

use crate::detokenizer::Pieces;
use crate::{TextError, TextMetadata, TokenId};

/// Texts that end an answer wherever they name a control token, whatever id the metadata calls EOS.
const END_OF_GENERATION: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// What stands for a space in tokens whose text is UTF-8.
pub(crate) const SPACE: char = '\u{2581}';

/// Texts that end an answer only in vocabularies that call them control tokens: in others they are HTML.
const END_IF_CONTROL: &[&str] = &["</s>", "<eos>"];

/// Fill-in-the-middle tokens after which a model has nothing more to say.
const FILL_IN_THE_MIDDLE_ENDS: &[&str] = &[
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<reponame>",
    "<|file_sep|>",
];

/// What a token is, as `tokenizer.ggml.token_type` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Normal,
    /// Stands for what has no token.
    Unknown,
    /// Structure, never text.
    Control,
    /// Text that is always one token.
    UserDefined,
    Unused,
    /// One byte of a character that has no token.
    Byte,
}

/// How a token's text in the file becomes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextForm {
    /// Each byte as one printable character, as in GPT-2.
    ByteLevel,
    /// UTF-8 with U+2581 for a space, and characters without a token in bytes.
    SentencePiece,
    SpacedBytePair,
    /// UTF-8 with U+2581 for the space before a word.
    WordPiece,
}

/// The checked token list.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    pub(crate) kinds: Vec<TokenKind>,
    pub(crate) pieces: Arc<Pieces>,
    pub(crate) bos: Option<TokenId>,
    pub(crate) eos: Option<TokenId>,
    pub(crate) unk: Option<TokenId>,
    pub(crate) pad: Option<TokenId>,
    pub(crate) separator: Option<TokenId>,
    end_of_generation: HashSet<TokenId>,
    /// Control and unknown tokens, and those user-defined ones whose text ends an answer.
    structural: Vec<TokenId>,
    user_defined: Vec<TokenId>,
}

impl Vocabulary {
    pub(crate) fn new(meta: &TextMetadata, form: TextForm) -> Result<Vocabulary, TextError> {
        let n = meta.tokens.len();
        if n == 0 || i32::try_from(n).is_err() {
            return Err(TextError::Vocabulary(format!("it has {n} tokens")));
        }
        if !meta.token_types.is_empty() && meta.token_types.len() < n {
            return Err(TextError::Vocabulary(format!(
                "{} token types for {n} tokens",
                meta.token_types.len()
            )));
        }
        // Files often do not name those that a kind of vocabulary has by convention.
        let (bos, eos, unk, separator, pad) = match form {
            TextForm::SentencePiece => (Some(1), Some(2), Some(0), None, None),
            TextForm::WordPiece => (Some(101), None, Some(100), Some(102), Some(0)),
            TextForm::ByteLevel | TextForm::SpacedBytePair => (None, None, None, None, None),
        };
        let in_range = |id: Option<u32>| id.filter(|&id| (id as usize) < n);
        let mut vocabulary = Vocabulary {
            kinds: (0..n).map(|i| kind(meta.token_types.get(i).copied())).collect(),
            pieces: Arc::default(),
            bos: in_range(meta.bos.or(bos)),
            eos: in_range(meta.eos.or(eos)),
            unk: in_range(meta.unk.or(unk)),
            pad: in_range(meta.pad.or(pad)),
            separator: in_range(separator.and(meta.separator.or(separator))),
            end_of_generation: [meta.eos.or(eos), meta.eot, meta.eom]
                .into_iter()
                .chain(meta.fim_ends.iter().copied().map(Some))
                .filter_map(in_range)
                .collect(),
            structural: Vec::new(),
            user_defined: Vec::new(),
        };
        vocabulary.find_structure(&meta.tokens);
        vocabulary.pieces = Arc::new(vocabulary.bytes_of(&meta.tokens, form));
        Ok(vocabulary)
    }

    /// Sorts out which tokens are structure, by kind and by name: some files call `<|im_end|>` a normal token.
    fn find_structure(&mut self, tokens: &[String]) {
        for (id, text) in (0u32..).zip(tokens) {
            let kind = &mut self.kinds[id as usize];
            let text = text.as_str();
            if END_OF_GENERATION.contains(&text) {
                *kind = TokenKind::Control;
                self.end_of_generation.insert(id);
            }
            let is_control = *kind == TokenKind::Control;
            if is_control && (END_IF_CONTROL.contains(&text) || FILL_IN_THE_MIDDLE_ENDS.contains(&text)) {
                self.end_of_generation.insert(id);
            }
            match kind {
                // A mark does not fit into one character, so such a token is never read from text.
                _ if text.chars().nth(1).is_none() && *kind != TokenKind::UserDefined => {}
                _ if text.is_empty() => {}
                TokenKind::Control | TokenKind::Unknown => self.structural.push(id),
                TokenKind::UserDefined if END_IF_CONTROL.contains(&text) => self.structural.push(id),
                TokenKind::UserDefined => self.user_defined.push(id),
                TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => {}
            }
        }
        // The harmony format writes `<|end|>` between the parts of one answer and ends it with another token.
        let id_of = |name: &str| (0u32..).zip(tokens).find(|(_, text)| *text == name).map(|(id, _)| id);
        if let Some(end) = id_of("<|end|>") {
            let has = |name: &str| id_of(name).is_some();
            if has("<|return|>") && has("<|call|>") || has("<|calls|>") && has("<|flush|>") {
                self.end_of_generation.remove(&end);
            }
        }
    }

    fn bytes_of(&self, tokens: &[String], form: TextForm) -> Pieces {
        let mut pieces = Pieces::default();
        for (text, kind) in tokens.iter().zip(&self.kinds) {
            match (kind, form) {
                (TokenKind::Control | TokenKind::Unknown | TokenKind::Unused, _) => pieces.push(&[]),
                (TokenKind::UserDefined, _) => pieces.push(text.as_bytes()),
                (TokenKind::Byte, _) => match byte_of_name(text) {
                    Some(byte) => pieces.push(&[byte]),
                    None => pieces.push(text.as_bytes()),
                },
                (TokenKind::Normal, TextForm::ByteLevel) => pieces.push(&byte_level::decode(text)),
                (TokenKind::Normal, _) => pieces.push(text.replace(SPACE, " ").as_bytes()),
            }
        }
        pieces
    }

    pub(crate) fn n_tokens(&self) -> usize {
        self.kinds.len()
    }

    pub(crate) fn is_end_of_generation(&self, id: TokenId) -> bool {
        self.end_of_generation.contains(&id)
    }

    pub(crate) fn end_of_generation(&self) -> impl Iterator<Item = TokenId> {
        self.end_of_generation.iter().copied()
    }

    /// Tokens that client text must never become, ascending.
    pub(crate) fn structural(&self) -> &[TokenId] {
        &self.structural
    }

    /// Tokens that any text may become and that are cut out of it before everything else.
    pub(crate) fn user_defined(&self) -> &[TokenId] {
        &self.user_defined
    }

    /// Whether merging plain text may end in this token.
    pub(crate) fn is_reachable_by_merging(&self, id: TokenId) -> bool {
        !matches!(self.kinds[id as usize], TokenKind::Control | TokenKind::Unknown)
    }
}

fn kind(token_type: Option<i32>) -> TokenKind {
    match token_type {
        Some(2) => TokenKind::Unknown,
        Some(3) => TokenKind::Control,
        Some(4) => TokenKind::UserDefined,
        Some(6) => TokenKind::Byte,
        None | Some(1) => TokenKind::Normal,
        Some(_) => TokenKind::Unused,
    }
}

/// The byte that a name such as `<0x0A>` stands for.
pub(crate) fn byte_of_name(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// GPT-2's alphabet: every byte is one printable character.
pub(crate) mod byte_level {
    /// The character that stands for a byte: itself if printable in Latin-1, else the next one from U+0100 on.
    pub(crate) fn char_of(byte: u8) -> char {
        let code = match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
            0x00..=0x20 => 0x100 + u32::from(byte),
            0x7f..=0xa0 => 0x121 + u32::from(byte - 0x7f),
            0xad => 0x143,
        };
        char::from_u32(code).expect("all of these codes are letters below U+0144")
    }

    /// The byte that a character stands for.
    pub(crate) fn byte_of(c: char) -> Option<u8> {
        match u32::from(c) {
            code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
            code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
            code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
            0x143 => Some(0xad),
            _ => None,
        }
    }

    /// The bytes of a token; characters outside the alphabet stand for themselves.
    pub(crate) fn decode(text: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(text.len());
        for c in text.chars() {
            match byte_of(c) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes
    }

    #[cfg(test)]
    mod tests {
        use super::{byte_of, char_of};

        #[test]
        fn every_byte_has_its_own_character() {
            for byte in 0..=255u8 {
                assert_eq!(byte_of(char_of(byte)), Some(byte));
            }
            assert_eq!(char_of(b' '), 'Ġ');
            assert_eq!(char_of(b'\n'), 'Ċ');
            assert_eq!(char_of(0xad), 'Ń');
        }
    }
}
