//! Builds what holds answers, from schemas and from the forms of calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory, panic_utils};
use serde_json::{Value, json};

use super::grammar_cache::GrammarCache;
use super::{Constraint, ConstraintError, Written, end_id};
use crate::TokenId;
use crate::answer_form::{Begins, MARK};
use crate::answer_rules::{AnswerRules, Calls, Most};
use crate::call_grammar;
use crate::call_grammar::held::{HeldTool, Wanted};
use crate::course::{Bound, Marker, Place, Stretch};
use crate::output_format::OutputFormat;
use crate::schema::{self, MAX_SCHEMA_BYTES, ReadSchema, SchemaFault, Strictness};
use crate::vocabulary::Vocabulary;

/// The widest indentation of one level.
const INDENTATION: usize = 4;
/// Steps that may go into reading all patterns and texts of a grammar.
const MAX_PATTERN_STEPS: u64 = 1_000_000;
/// States of what matches them; a kilobyte or two each.
const MAX_PATTERN_STATES: usize = 50_000;
/// Symbols of a grammar.
const MAX_GRAMMAR_SYMBOLS: usize = 500_000;

/// The vocabulary in the form that grammars are matched against; made when the first answer needs it.
#[derive(Default)]
pub(crate) struct ConstraintFactory {
    /// Written once, by whoever comes first; it takes some hundred milliseconds and nobody waits for it twice.
    shared: OnceLock<Result<Shared, ConstraintError>>,
}

struct Shared {
    parsers: ParserFactory,
    ends: Arc<[TokenId]>,
    /// The tokens of single bytes.
    bytes: Arc<[Option<TokenId>]>,
    /// Guards the grammars of this vocabulary that are kept; held for a look, and for a copy of one.
    cache: Mutex<GrammarCache>,
}

/// What a grammar is built from.
enum Source {
    /// A schema with our own options in it.
    Schema(Value),
    /// A grammar in the library's own language.
    Lark(String),
}

impl Source {
    /// What no other source is called.
    fn name(&self) -> String {
        match self {
            Source::Schema(schema) => format!("schema {schema}"),
            Source::Lark(grammar) => format!("lark {grammar}"),
        }
    }

    fn grammar(self) -> TopLevelGrammar {
        match self {
            Source::Schema(schema) => TopLevelGrammar::from_json_schema(schema),
            Source::Lark(grammar) => TopLevelGrammar::from_lark(grammar),
        }
    }
}

impl Words<'_> {
    /// The token that a marker begins with, if one token says as much of it as tells it from text.
    fn opening(self, marker: &str) -> Option<TokenId> {
        let begins = self.markers.iter().filter(|(_, text)| marker.starts_with(text.as_ref()));
        if let Some((id, _)) = begins.max_by_key(|(_, text)| text.len()) {
            return Some(*id);
        }
        let pieces = &self.vocabulary.pieces;
        (0..end_id(self.vocabulary.n_tokens())).find(|&id| pieces.get(id) == marker.as_bytes())
    }
}

impl ConstraintFactory {
    /// What holds an answer to a format and nothing else.
    pub(crate) fn constraint(
        &self,
        format: &OutputFormat,
        words: Words<'_>,
    ) -> Result<Constraint, ConstraintError> {
        let (schema, read) = prepared(format)?;
        let shared = self.shared(words)?;
        let matcher = shared.matcher(Source::Schema(schema), &read)?;
        Ok(shared.constraint(vec![held(matcher, None)], words))
    }

    /// What holds a chat's answer to its rules; nothing, where they hold nothing. Thoughts begin with
    /// `opening`, and those that become too long are ended with `closing`.
    pub(crate) fn answer(
        &self,
        rules: &AnswerRules,
        (opening, closing): (&[TokenId], &[TokenId]),
        words: Words<'_>,
    ) -> Result<Option<Constraint>, ConstraintError> {
        if !rules.hold_something() {
            return Ok(None);
        }
        let shared = self.shared(words)?;
        if !rules.hold_words() {
            return Ok(Some(shared.free_until_calls(Vec::new(), rules, closing, words)));
        }
        let document = rules.format.as_ref().map(prepared).transpose()?;
        let mut tools = Vec::with_capacity(rules.tools.len());
        let mut n_bytes = 0;
        for (i, tool) in rules.tools.iter().enumerate() {
            let of_tool = |fault| ConstraintError::Tool { tool: i, fault };
            let held = HeldTool::new(tool, rules.form.calls.arguments(), as_read).map_err(of_tool)?;
            n_bytes += held.n_bytes;
            if n_bytes > MAX_SCHEMA_BYTES {
                let message = format!("the schemas of all tools have more than {MAX_SCHEMA_BYTES} bytes");
                return Err(of_tool(SchemaFault { pointer: "#".into(), message }));
            }
            tools.push(held);
        }
        let of_calls = ReadSchema::of_calls();
        let read = document.as_ref().map_or(&of_calls, |(_, read)| read);
        let lark = |grammar: String| shared.matcher(Source::Lark(grammar), read);
        if rules.calls == Calls::Must || rules.format.is_some() {
            let schema = document.as_ref().map(|(schema, _)| schema);
            let matcher = lark(call_grammar::of_answer(rules, &tools, schema, words.markers))?;
            return Ok(Some(shared.after_thoughts(matcher, rules, (opening, closing), words)));
        }
        let mut openings = Vec::new();
        for opening in call_grammar::of_openings(rules, &tools, words.markers) {
            openings.push((opening.marker, lark(opening.grammar)?));
        }
        Ok(Some(shared.free_until_calls(openings, rules, closing, words)))
    }

    fn shared(&self, words: Words<'_>) -> Result<&Shared, ConstraintError> {
        self.shared.get_or_init(|| Shared::new(words)).as_ref().map_err(Clone::clone)
    }
}

fn held(matcher: Matcher, then: Option<usize>) -> Stretch {
    Stretch::Held { matcher: Box::new(matcher), then, instead: None }
}

/// Adds to the stretches what ends thoughts that become too long and leads to `then`. Gives what bounds them, where
/// something does.
fn bound(
    stretches: &mut Vec<Stretch>,
    rules: &AnswerRules,
    closing: &[TokenId],
    then: usize,
) -> Option<Bound> {
    let n_tokens = rules.most_thoughts?.saturating_sub(closing.len());
    let first = said(stretches, closing, then);
    (!closing.is_empty()).then_some(Bound { n_tokens, then: first })
}

/// Adds to the stretches what says these tokens and leads to `then`. Gives the first of them.
fn said(stretches: &mut Vec<Stretch>, tokens: &[TokenId], then: usize) -> usize {
    let first = stretches.len();
    for (i, &token) in tokens.iter().enumerate() {
        let is_last = i + 1 == tokens.len();
        stretches.push(Stretch::Said { token, then: if is_last { then } else { first + i + 1 } });
    }
    if tokens.is_empty() { then } else { first }
}

/// A vocabulary, and its control tokens that are markers.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    pub(crate) vocabulary: &'a Vocabulary,
    pub(crate) markers: &'a Arc<HashMap<TokenId, Box<str>>>,
}

impl Shared {
    fn new(Words { vocabulary, markers }: Words<'_>) -> Result<Shared, ConstraintError> {
        let n_vocab = vocabulary.n_tokens();
        let bytes_of = |id: TokenId| match vocabulary.pieces.get(id) {
            // A grammar names them by their numbers.
            _ if markers.contains_key(&id) && !vocabulary.is_end_of_generation(id) => {
                [&[TokTrie::SPECIAL_TOKEN_MARKER], markers[&id].as_bytes()].concat()
            }
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
            initial_lexer_fuel: MAX_PATTERN_STEPS,
            max_lexer_states: MAX_PATTERN_STATES,
            max_grammar_size: MAX_GRAMMAR_SYMBOLS,
            // Two thousand optional properties, each of which may come first.
            max_items_in_row: 20_000,
            step_max_items: 200_000,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        let ends = vocabulary.end_of_generation().collect();
        let mut bytes = vec![None; 256];
        for id in 0..end_id(n_vocab) {
            if let [byte] = vocabulary.pieces.get(id) {
                bytes[usize::from(*byte)].get_or_insert(id);
            }
        }
        Ok(Shared { parsers, ends, bytes: bytes.into(), cache: Mutex::default() })
    }

    fn matcher(&self, source: Source, read: &ReadSchema) -> Result<Matcher, ConstraintError> {
        let name = source.name();
        if let Some(kept) = self.cache().get(&name) {
            return Ok(kept);
        }
        let grammar = source.grammar();
        // The library guards its own steps against panics but not the building of a parser.
        let parser =
            panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| self.parsers.create_parser(grammar)));
        let parser = parser.map_err(|e| ConstraintError::Schema(refusal(&e.to_string(), read)))?;
        let mut matcher = Matcher::new(Ok(parser));
        // Where nothing may come first nothing may come at all: better said now than in the middle of an answer.
        matcher.compute_mask_or_eos().map_err(|e| ConstraintError::Schema(refusal(&e.to_string(), read)))?;
        self.cache().put(name, &matcher);
        Ok(matcher)
    }

    fn cache(&self) -> MutexGuard<'_, GrammarCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that begins with the first of these stretches.
    fn constraint(&self, stretches: Vec<Stretch>, words: Words<'_>) -> Constraint {
        let written = Written {
            pieces: Arc::clone(&words.vocabulary.pieces),
            markers: Arc::clone(words.markers),
            bytes: Arc::clone(&self.bytes),
        };
        let n_vocab = words.vocabulary.n_tokens();
        Constraint::new(stretches, Arc::clone(&self.ends), n_vocab, written)
    }

    /// One that is free, but holds every call from its opening marker on.
    fn free_until_calls(
        &self,
        openings: Vec<(String, Matcher)>,
        rules: &AnswerRules,
        closing: &[TokenId],
        words: Words<'_>,
    ) -> Constraint {
        const FIRST: usize = 0;
        const LATER: usize = 1;
        const THOUGHTS: usize = 2;
        let free = |markers| Stretch::Free { markers, may_end: true, bound: None };
        let to = |text: &str, to, place| Marker { text: text.to_owned(), to, place };
        let mut stretches = vec![free(Vec::new()), free(Vec::new()), free(Vec::new())];
        let mut markers = Vec::new();
        let then = (rules.most == Most::Any).then_some(LATER);
        for (marker, matcher) in openings {
            markers.push(to(&marker, stretches.len(), Place::Anywhere));
            stretches.push(held(matcher, then));
        }
        let mut first = markers.clone();
        if let Some((open, close)) = rules.form.around_thoughts() {
            // What thoughts say of calls is none. They begin where a reader of the answer takes them to begin.
            let bound = bound(&mut stretches, rules, closing, FIRST);
            let close = vec![to(&close, FIRST, Place::Anywhere)];
            stretches[THOUGHTS] = Stretch::Free { markers: close, may_end: true, bound };
            if open.starts_with(MARK) {
                first.push(to(&open, THOUGHTS, Place::Anywhere));
                markers.push(to(&open, THOUGHTS, Place::Anywhere));
            } else if rules.begins == Begins::Text {
                first.push(to(&open, THOUGHTS, Place::First));
            }
        }
        stretches[FIRST] = free(first);
        stretches[LATER] = free(markers);
        let mut constraint = self.constraint(stretches, words);
        if rules.begins == Begins::Thoughts && rules.form.thoughts.is_some() {
            constraint.enter(Some(THOUGHTS));
        }
        constraint
    }

    /// One that holds what comes after thoughts, where an answer may have some.
    fn after_thoughts(
        &self,
        matcher: Matcher,
        rules: &AnswerRules,
        (opening, closing): (&[TokenId], &[TokenId]),
        words: Words<'_>,
    ) -> Constraint {
        const HELD: usize = 0;
        const THOUGHTS: usize = 1;
        let mut stretches = vec![held(matcher, None)];
        if let (Some(thoughts), false) = (&rules.form.thoughts, rules.form.calls.is_harmony()) {
            let close = thoughts.close.clone();
            let markers = vec![Marker { text: close, to: HELD, place: Place::Anywhere }];
            stretches.push(Stretch::Free { markers, may_end: false, bound: None });
            let within = bound(&mut stretches, rules, closing, HELD);
            // The model may begin to think, where one token says so; what else the opening marker has comes next.
            let first = words.opening(&thoughts.open).filter(|_| rules.begins == Begins::Text);
            let others = match opening {
                [token, others @ ..] if first == Some(*token) => others,
                _ => &[],
            };
            if let Stretch::Free { bound, .. } = &mut stretches[THOUGHTS] {
                // A marker of one token counts as it comes, and can be ended at once; one of several counts beforehand, and
                // where there is no room for it, no thoughts begin.
                let n_tokens = |n: usize| match (first, others) {
                    (Some(_), []) => n.max(1),
                    (Some(_), _) => n.saturating_sub(opening.len()),
                    (None, _) => n,
                };
                *bound = within.map(|bound| Bound { n_tokens: n_tokens(bound.n_tokens), ..bound });
            }
            let to = said(&mut stretches, others, THOUGHTS);
            if let Stretch::Held { instead, .. } = &mut stretches[HELD] {
                *instead = first.map(|token| (token, to));
            }
        }
        let mut constraint = self.constraint(stretches, words);
        if rules.begins == Begins::Thoughts && !rules.form.calls.is_harmony() {
            constraint.enter(Some(THOUGHTS));
        }
        constraint
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
    Ok((with_options(&mut read, strictness), read))
}

/// A schema of a tool with our own options in it.
fn as_read(wanted: Wanted<'_>) -> Result<Value, SchemaFault> {
    let (mut read, strictness) = match wanted {
        Wanted::AnyObject => {
            (schema::read(&json!({"type": "object"}), Strictness::Lenient)?, Strictness::Lenient)
        }
        Wanted::AnyValue => (schema::read(&json!({}), Strictness::Lenient)?, Strictness::Lenient),
        Wanted::Whole(schema, strictness) => (schema::read(schema, strictness)?, strictness),
        Wanted::Property(object, name, strictness) => {
            (schema::read_property(object, name, strictness)?, strictness)
        }
    };
    Ok(with_options(&mut read, strictness))
}

/// The schema, taken out of what was read.
fn with_options(read: &mut ReadSchema, strictness: Strictness) -> Value {
    let options = JsonCompileOptions {
        whitespace_pattern: Some(white_space(read.nesting)),
        coerce_one_of: strictness == Strictness::Lenient,
        lenient: strictness == Strictness::Lenient,
        ..JsonCompileOptions::default()
    };
    let mut schema = std::mem::take(&mut read.schema);
    options.apply_to(&mut schema);
    schema
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
    } else if ["lexer configuration", "lexer precomputation", "too many expressions"]
        .iter()
        .any(|words| said.contains(words))
    {
        let message = format!("its patterns and texts take more than {MAX_PATTERN_STEPS} steps to read");
        fault(&None, &message)
    } else if said.contains("too many states") {
        fault(&None, &format!("its patterns have more than {MAX_PATTERN_STATES} states"))
    } else if said.contains("grammar size") || said.contains("schema too large") {
        fault(&None, &format!("its grammar has more than {MAX_GRAMMAR_SYMBOLS} symbols"))
    } else {
        fault(&None, "its grammar is too large or cannot be built")
    }
}
