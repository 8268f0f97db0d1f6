//! What a model file says about its vocabulary, as plain data, and how much of it there may be.

use crate::TextError;

/// Tokens, about eight times those of the largest vocabularies.
const MAX_TOKENS: usize = 1 << 21;
/// Bytes of one token's text: a piece of text is compared with tokens of up to as many.
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Bytes of all of them.
const MAX_TOKENS_BYTES: usize = 64 << 20;
const MAX_MERGES: usize = 1 << 22;
/// Bytes of one merge, which is two tokens.
const MAX_MERGE_BYTES: usize = 2 * MAX_TOKEN_BYTES;

/// The `tokenizer.*` part of a GGUF's metadata, unchecked; `TextModel::new` checks it.
#[derive(Debug, Clone, Default)]
pub struct TextMetadata {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE), `gemma4` (BPE over characters), `llama` (SentencePiece) or
    /// `bert` (WordPiece).
    pub tokenizer_model: String,
    /// `tokenizer.ggml.pre`: how a `gpt2` vocabulary cuts text into words.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`, indexed by token id.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
    /// Empty means that all are normal.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.scores`; only `llama` vocabularies need them.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.merges` as `left right`; only `gpt2` and `gemma4` vocabularies need them.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`, or `tokenizer.ggml.cls_token_id`
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`
    pub eom: Option<u32>,
    /// `tokenizer.ggml.fim_pad_token_id`, `fim_rep_token_id` and `fim_sep_token_id`: after these a model that fills a gap
    /// has nothing more to say.
    pub fim_ends: Vec<u32>,
    /// `tokenizer.ggml.unknown_token_id`
    pub unk: Option<u32>,
    /// `tokenizer.ggml.seperator_token_id`, which is how it is spelt; `bert` vocabularies only.
    pub separator: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`
    pub pad: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`; after a text that nothing continues.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`; `llama` vocabularies only: to the other kinds it means nothing, and converters
    /// write it into their files too.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.escape_whitespaces`; refused where it is not what the kind of vocabulary does.
    pub escape_whitespaces: Option<bool>,
    /// `tokenizer.ggml.remove_extra_whitespaces`; refused where it is true.
    pub remove_extra_whitespaces: Option<bool>,
    /// Whether there is a `tokenizer.ggml.precompiled_charsmap`, which is refused.
    pub has_charsmap: bool,
    /// `tokenizer.ggml.normalizer.lowercase`; `bert` vocabularies only, and true where nothing is said.
    pub lower_case: Option<bool>,
    /// `tokenizer.ggml.normalizer.strip_accents`; `bert` vocabularies only, and as `lower_case` where nothing is said.
    pub strip_accents: Option<bool>,
    /// `tokenizer.chat_template`
    pub chat_template: Option<String>,
}

impl TextMetadata {
    /// # Errors
    /// When there is more than any model's file has: what is made of it takes many times its memory, and time.
    pub(crate) fn check_size(&self) -> Result<(), TextError> {
        let check = |what: &str, texts: &[String], most: usize, most_bytes: usize| {
            if texts.len() > most {
                return Err(TextError::Vocabulary(format!("{} {what}s, and {most} at most", texts.len())));
            }
            let long = texts.iter().position(|text| text.len() > most_bytes);
            long.map_or(Ok(()), |i| {
                let n = texts[i].len();
                Err(TextError::Vocabulary(format!("{what} {i} has {n} bytes, and {most_bytes} at most")))
            })
        };
        check("token", &self.tokens, MAX_TOKENS, MAX_TOKEN_BYTES)?;
        check("merge", &self.merges, MAX_MERGES, MAX_MERGE_BYTES)?;
        let n_bytes: usize = self.tokens.iter().map(String::len).sum();
        if n_bytes > MAX_TOKENS_BYTES {
            return Err(TextError::Vocabulary(format!(
                "its tokens have {n_bytes} bytes, and {MAX_TOKENS_BYTES} at most"
            )));
        }
        Ok(())
    }
}
