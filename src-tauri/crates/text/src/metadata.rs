//! What a model file says about its vocabulary, as plain data.

/// The `tokenizer.*` part of a GGUF's metadata, unchecked; `TextModel::new` checks it.
#[derive(Debug, Clone, Default)]
pub struct TextMetadata {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece).
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
    /// `tokenizer.ggml.merges` as `left right`; only `gpt2` vocabularies need them.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`
    pub eot: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`
    pub unk: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`
    pub pad: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`; a prompt is there to be continued, so it never gets one.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`; `llama` vocabularies only.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`
    pub chat_template: Option<String>,
}
