//! Constrained decoding: which tokens may come next so that the answer is JSON of the wanted shape.

use std::sync::{Arc, OnceLock};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory, panic_utils};
use serde_json::{Value, json};

use crate::TokenId;
use crate::schema::{self, ReadSchema, SchemaFault, Strictness};
use crate::vocabulary::Vocabulary;

/// The widest indentation of one level.
const INDENTATION: usize = 4;
/// Stack that building a grammar may take at the bounds on a schema; `tests/bounds.rs` measures it.
pub const CONSTRAINT_STACK_BYTES: usize = 64 << 20;

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputFormat {
    /// Any JSON object.
    JsonObject,
    /// A JSON document that this schema allows.
    JsonSchema {
        /// The client's schema.
        schema: Value,
        /// What happens to keywords in it that cannot be held to.
        strictness: Strictness,
    },
}

/// Why an answer cannot be held to a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The schema is wrong or uses something that is not supported; the client must change it.
    #[error("the schema cannot be used: {0}")]
    Schema(SchemaFault),
    /// The answer cannot go on within the format: a limit was hit or a token was not allowed.
    #[error("the answer cannot be held to its format: {0}")]
    Stuck(String),
}

/// Holds one answer to a format, token by token.
///
/// Ask for [`Constraint::mask`] before sampling and tell [`Constraint::commit`] the token that was sampled.
pub struct Constraint {
    matcher: Matcher,
    ends: Arc<[TokenId]>,
    n_vocab: usize,
}

/// The tokens that may come next.
#[derive(Debug, Clone)]
pub struct TokenMask {
    allowed: SimpleVob,
}

/// The vocabulary in the form that grammars are matched against; made when the first answer needs it.
#[derive(Default)]
pub(crate) struct ConstraintFactory {
    /// Written once, by whoever comes first; it takes some hundred milliseconds and nobody waits for it twice.
    shared: OnceLock<Result<Shared, ConstraintError>>,
}

struct Shared {
    parsers: ParserFactory,
    ends: Arc<[TokenId]>,
}

impl Constraint {
    /// The tokens that may come next. Once the document is complete, only tokens that end the answer may.
    ///
    /// # Errors
    /// When nothing may, which a schema with contradictions can lead to, or when a limit was hit.
    pub fn mask(&mut self) -> Result<TokenMask, ConstraintError> {
        let mut allowed = self.matcher.compute_mask_or_eos().map_err(stuck)?;
        let may_end = allowed.is_allowed(end_id(self.n_vocab));
        // The library has room for one number more, and cannot do with less than that.
        if allowed.len() <= self.n_vocab {
            allowed.resize(self.n_vocab + 1);
        }
        allowed.disallow_token(end_id(self.n_vocab));
        if may_end {
            self.ends.iter().for_each(|&end| allowed.allow_token(end));
        }
        Ok(TokenMask { allowed })
    }

    /// Takes the sampled token.
    ///
    /// # Errors
    /// When the format does not allow it here; the constraint is of no further use then.
    pub fn commit(&mut self, id: TokenId) -> Result<(), ConstraintError> {
        let is_end = self.ends.contains(&id);
        if is_end && self.is_finished() {
            return Ok(());
        }
        self.matcher.consume_token(if is_end { end_id(self.n_vocab) } else { id }).map_err(stuck)
    }

    /// Whether the document is complete and cannot be longer, so that generation may end at once.
    pub fn is_finished(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }
}

impl TokenMask {
    /// Whether this token may come next.
    pub fn allows(&self, id: TokenId) -> bool {
        (id as usize) < self.allowed.len() && self.allowed.is_allowed(id)
    }

    /// The tokens that may come next, ascending.
    pub fn allowed(&self) -> impl Iterator<Item = TokenId> + '_ {
        self.allowed.iter()
    }

    /// Makes every token that may not come next impossible. `logits`: one for each token, `[n_vocab]` or more.
    pub fn apply(&self, logits: &mut [f32]) {
        for (id, logit) in (0..).zip(logits) {
            if !self.allows(id) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Number of tokens that may come next.
    pub fn n_allowed(&self) -> usize {
        self.allowed.num_set()
    }
}

impl ConstraintFactory {
    pub(crate) fn constraint(
        &self,
        format: &OutputFormat,
        vocabulary: &Vocabulary,
    ) -> Result<Constraint, ConstraintError> {
        let (schema, read) = prepared(format)?;
        let grammar = TopLevelGrammar::from_json_schema(schema);
        let shared = self.shared.get_or_init(|| Shared::new(vocabulary)).as_ref().map_err(Clone::clone)?;
        // The library guards its own steps against panics but not the building of a parser.
        let parser =
            panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| shared.parsers.create_parser(grammar)));
        let parser = parser.map_err(|e| ConstraintError::Schema(refusal(&e.to_string(), &read)))?;
        let mut matcher = Matcher::new(Ok(parser));
        // Where nothing may come first nothing may come at all: better said now than in the middle of an answer.
        matcher.compute_mask_or_eos().map_err(|e| ConstraintError::Schema(refusal(&e.to_string(), &read)))?;
        Ok(Constraint { matcher, ends: shared.ends.clone(), n_vocab: vocabulary.n_tokens() })
    }
}

impl Shared {
    fn new(vocabulary: &Vocabulary) -> Result<Shared, ConstraintError> {
        let n_vocab = vocabulary.n_tokens();
        let bytes_of = |id: TokenId| match vocabulary.pieces.get(id) {
            // Bytes that start like this name special tokens to the library; no JSON contains them.
            [TokTrie::SPECIAL_TOKEN_MARKER, ..] => Vec::new(),
            bytes => bytes.to_vec(),
        };
        // A number beyond the vocabulary stands for all tokens that end an answer.
        let words: Vec<Vec<u8>> = (0..end_id(n_vocab)).map(bytes_of).chain([Vec::new()]).collect();
        let trie = TokTrie::from(&TokRxInfo::new(end_id(n_vocab) + 1, end_id(n_vocab)), &words);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let mut parsers = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
            .map_err(|e| ConstraintError::Stuck(e.to_string()))?;
        parsers.quiet();
        *parsers.limits_mut() = ParserLimits {
            max_lexer_states: 50_000,
            // Two thousand optional properties, each of which may come first.
            max_items_in_row: 20_000,
            step_max_items: 200_000,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        let ends = vocabulary.end_of_generation().collect();
        Ok(Shared { parsers, ends })
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("n_vocab", &self.n_vocab).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ConstraintFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConstraintFactory").finish_non_exhaustive()
    }
}

/// The schema with our own options in it; a client's options for the library are not taken.
fn prepared(format: &OutputFormat) -> Result<(Value, ReadSchema), ConstraintError> {
    let (schema, strictness) = match format {
        OutputFormat::JsonObject => (&json!({"type": "object"}), Strictness::Strict),
        OutputFormat::JsonSchema { schema, strictness } => (schema, *strictness),
    };
    let mut read = schema::read(schema, strictness).map_err(ConstraintError::Schema)?;
    let options = JsonCompileOptions {
        whitespace_pattern: Some(white_space(read.nesting)),
        coerce_one_of: strictness == Strictness::Lenient,
        lenient: strictness == Strictness::Lenient,
        ..JsonCompileOptions::default()
    };
    let mut schema = std::mem::take(&mut read.schema);
    options.apply_to(&mut schema);
    Ok((schema, read))
}

/// White space between two parts of a document: a space, or a line break and the indentation that the innermost
/// list or object has. What is longer says nothing, and some models never end it.
fn white_space(nesting: usize) -> String {
    let nesting = nesting.max(1);
    format!(r"\x20|\x0D?\x0A(?:\x20{{0,{}}}|\x09{{0,{nesting}}})", nesting * INDENTATION)
}

/// What we say of a schema that the library does not take. Its own words are about its insides.
fn refusal(said: &str, read: &ReadSchema) -> SchemaFault {
    let fault = |pointer: &Option<String>, message: &str| SchemaFault {
        pointer: pointer.clone().unwrap_or_else(|| "#".to_owned()),
        message: message.to_owned(),
    };
    if said.contains("oneOf constraints") {
        fault(
            &read.one_of,
            "the alternatives of 'oneOf' are not told apart by what they require; use 'anyOf'",
        )
    } else if said.contains("not disjoint") {
        fault(&read.pattern_properties, "the patterns of 'patternProperties' overlap")
    } else if said.contains("nsatisfiable") || said.contains("NoExtension") {
        fault(&None, "no answer fits it")
    } else if said.contains("circular references") {
        fault(&None, "a reference leads back to itself beside other keywords")
    } else {
        fault(&None, "its grammar is too large or cannot be built")
    }
}

/// The number that stands for all tokens that end an answer.
fn end_id(n_vocab: usize) -> TokenId {
    TokenId::try_from(n_vocab).expect("a vocabulary has fewer than 2^31 tokens, checked when it is built")
}

fn stuck(error: impl std::fmt::Display) -> ConstraintError {
    ConstraintError::Stuck(one_line(&error))
}

/// The library's words on one line, without the backtrace that comes with a panic it caught.
fn one_line(error: &impl std::fmt::Display) -> String {
    const MAX_CHARS: usize = 400;
    let text = error.to_string();
    let message = text.split("<backtrace>").next().unwrap_or_default();
    message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_CHARS).collect()
}
