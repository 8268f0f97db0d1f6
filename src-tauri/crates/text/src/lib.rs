//! Text in and out of tokens: the vocabulary, chat templates, streaming detokenising, stop strings,
//! answers held to a JSON schema or to calls of functions, and what such answers are made of.
//!
//! Everything here is pure: it is built once from a model's metadata and then only computes. It knows no
//! tensors, no requests, no threads, no files and no HTTP. Text becomes tokens by our own code although there is the crate
//! `tokenizers`: that one takes a text whole and cannot leave off, and here a prompt is merged in pieces, by several
//! threads, and ends where the context is full or its client is gone.
//!
//! Read `model.rs` first: `TextModel` is what callers hold, the other files are its parts.

mod model;

mod metadata;
mod vocabulary;

mod tokenizer;

mod byte_pair;
mod sentence_piece;
mod spaced_byte_pair;
mod word_piece;

mod digit_groups;
mod encoding;
mod merge;
mod merge_table;
mod pre_tokenizer;
mod recipes;
mod seams;
mod special;

mod chat;
mod chat_points;
mod chat_template;
mod defusing;
mod json;
mod landmarks;
mod lowering;
mod marked_text;
mod python;
mod render_worker;
mod rendered_chat;
mod rendered_text;
mod renderer;
mod strftime;
mod template;
mod tool;

mod answer_form;
mod answer_parts;
mod answer_reader;
mod answer_rules;
mod answer_stretches;
mod call_grammar;
mod canonical_json;
mod constraint;
mod course;
mod detokenizer;
mod output_format;
mod parameters;
mod schema;
mod stop;

mod error;

pub use answer_form::{AnswerForm, Begins};
pub use answer_parts::{AnswerPart, AnswerParts, AnswerReading, PartDigest, PartValue};
pub use answer_reader::{AnswerReader, Spoken};
pub use answer_rules::{AnswerRules, Calls, Most};
pub use canonical_json::has_key_twice;
pub use chat::{Chat, ChatMessage};
pub use chat_points::{Asked, ChatPoints};
pub use chat_template::ChatTemplate;
pub use constraint::{CONSTRAINT_STACK_BYTES, Constraint, ConstraintError, TokenMask};
pub use detokenizer::Detokenizer;
pub use encoding::{EncodeError, EncodeLimits};
pub use error::TextError;
pub use marked_text::MarkedText;
pub use metadata::TextMetadata;
pub use model::TextModel;
pub use output_format::OutputFormat;
pub use render_worker::{
    RENDER_STACK_BYTES, RenderRequest, WorkerIs, read_frame, serve_renderings, write_frame,
};
pub use rendered_chat::{AnswerStretch, EncodedPiece, RenderedChat};
pub use rendered_text::RenderedText;
pub use renderer::ChatRenderer;
pub use schema::{SchemaFault, Strictness};
pub use stop::{StopMatcher, StopOutcome};
pub use tool::{Tool, ToolCall};

/// A token's number in the vocabulary.
pub type TokenId = u32;
