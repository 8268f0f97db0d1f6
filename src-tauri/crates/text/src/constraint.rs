//! Constrained decoding: which tokens may come next so that the answer is JSON of the wanted shape, or calls functions
//! in its family's form.

pub(crate) mod factory;
mod grammar_cache;

use std::collections::HashMap;
use std::sync::Arc;

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use crate::TokenId;
use crate::course::{MarkerWatch, Stretch};
use crate::detokenizer::Pieces;
use crate::schema::SchemaFault;

/// Stack that building a grammar may take at the bounds on a schema; `tests/bounds.rs` measures it.
pub const CONSTRAINT_STACK_BYTES: usize = 64 << 20;

/// Why an answer cannot be held to a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The schema is wrong or uses something that is not supported; the client must change it.
    #[error("the schema cannot be used: {0}")]
    Schema(SchemaFault),
    /// As above, of the arguments of this one of the tools.
    #[error("the schema of a tool's arguments cannot be used: {fault}")]
    Tool {
        /// Which one.
        tool: usize,
        /// What is wrong with it.
        fault: SchemaFault,
    },
    /// The answer cannot go on within the format: a limit was hit or a token was not allowed.
    #[error("the answer cannot be held to its format: {0}")]
    Stuck(String),
}

/// Holds one answer to what it must be, token by token.
///
/// Ask whether it [holds](Constraint::holds) the next token, and if so for [`Constraint::mask`], before sampling, and
/// tell [`Constraint::commit`] the token that was sampled.
pub struct Constraint {
    stretches: Vec<Stretch>,
    /// The stretch under way; none when nothing but the end may come.
    at: Option<usize>,
    /// What holds it, where something does.
    matcher: Option<Matcher>,
    /// Whether the stretch has no token yet.
    is_fresh: bool,
    watch: MarkerWatch,
    /// Tokens in stretches that are bounded.
    n_bounded: usize,
    ends: Arc<[TokenId]>,
    n_vocab: usize,
    written: Written,
}

/// How tokens are written, for those who look for markers in them.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) pieces: Arc<Pieces>,
    pub(super) markers: Arc<HashMap<TokenId, Box<str>>>,
    /// The tokens of single bytes.
    pub(super) bytes: Arc<[Option<TokenId>]>,
}

impl Written {
    fn text(&self, id: TokenId) -> &[u8] {
        self.markers.get(&id).map_or_else(|| self.pieces.get(id), |text| text.as_bytes())
    }
}

/// The tokens that may come next.
#[derive(Debug, Clone)]
pub struct TokenMask {
    allowed: SimpleVob,
}

impl Constraint {
    /// One that begins with the first of these stretches, in a vocabulary of `n_vocab` tokens that `ends` end.
    pub(super) fn new(
        stretches: Vec<Stretch>,
        ends: Arc<[TokenId]>,
        n_vocab: usize,
        written: Written,
    ) -> Constraint {
        let mut constraint = Constraint {
            stretches,
            at: None,
            matcher: None,
            is_fresh: true,
            watch: MarkerWatch::default(),
            n_bounded: 0,
            ends,
            n_vocab,
            written,
        };
        constraint.enter(Some(0));
        constraint
    }

    /// Whether it has anything to say of the next token.
    pub fn holds(&self) -> bool {
        !matches!(self.stretch(), Some(Stretch::Free { may_end: true, .. }))
    }

    fn stretch(&self) -> Option<&Stretch> {
        self.at.and_then(|at| self.stretches.get(at))
    }

    /// That stretch, or what comes in its place where all that it may have is used up.
    fn within_bound(&self, at: usize) -> usize {
        match self.stretches.get(at) {
            Some(Stretch::Free { bound: Some(bound), .. }) if self.n_bounded >= bound.n_tokens => bound.then,
            _ => at,
        }
    }

    /// Whether that stretch, or the one that its words lead to, may have something still.
    fn may_lead_to(&self, mut at: usize) -> bool {
        while let Some(Stretch::Said { then, .. }) = self.stretches.get(at) {
            at = *then;
        }
        self.within_bound(at) == at
    }

    /// The tokens that may come next. Once the answer is complete, only tokens that end it may.
    ///
    /// # Errors
    /// When nothing may, which a schema with contradictions can lead to, or when a limit was hit.
    pub fn mask(&mut self) -> Result<TokenMask, ConstraintError> {
        if let Some(Stretch::Free { may_end, .. }) = self.stretch() {
            let mut allowed = SimpleVob::alloc_ones(self.n_vocab + 1);
            allowed.disallow_token(end_id(self.n_vocab));
            if !may_end {
                self.ends.iter().for_each(|&end| allowed.disallow_token(end));
            }
            return Ok(TokenMask { allowed });
        }
        if let Some(Stretch::Said { token, .. }) = self.stretch() {
            let mut allowed = SimpleVob::alloc(self.n_vocab + 1);
            allowed.allow_token(*token);
            return Ok(TokenMask { allowed });
        }
        let mut allowed = match &mut self.matcher {
            Some(matcher) => matcher.compute_mask_or_eos().map_err(stuck)?,
            None => SimpleVob::alloc(self.n_vocab + 1),
        };
        let may_end = self.matcher.is_none() || allowed.is_allowed(end_id(self.n_vocab));
        // The library has room for one number more, and cannot do with less than that.
        if allowed.len() <= self.n_vocab {
            allowed.resize(self.n_vocab + 1);
        }
        allowed.disallow_token(end_id(self.n_vocab));
        if may_end {
            self.ends.iter().for_each(|&end| allowed.allow_token(end));
        }
        if let Some(Stretch::Held { instead: Some((token, to)), .. }) = self.stretch()
            && self.is_fresh
            && self.may_lead_to(*to)
        {
            allowed.allow_token(*token);
        }
        Ok(TokenMask { allowed })
    }

    /// Takes the sampled token.
    ///
    /// # Errors
    /// When the answer may not go on with it here; the constraint is of no further use then.
    pub fn commit(&mut self, id: TokenId) -> Result<(), ConstraintError> {
        let is_end = self.ends.contains(&id);
        let is_fresh = std::mem::take(&mut self.is_fresh);
        match self.at.map(|at| &self.stretches[at]) {
            None if is_end => Ok(()),
            None => Err(stuck("nothing but its end may come")),
            Some(Stretch::Free { may_end, .. }) if is_end => {
                if *may_end {
                    Ok(())
                } else {
                    Err(stuck("it may not end here"))
                }
            }
            Some(Stretch::Free { bound, .. }) => {
                let was_bounded = bound.is_some();
                let bytes = self.written.text(id).to_vec();
                self.pass(&bytes);
                self.count(was_bounded);
                Ok(())
            }
            Some(Stretch::Said { token, then }) => {
                if *token != id {
                    return Err(stuck("it goes on with another token"));
                }
                let then = *then;
                self.enter(Some(then));
                Ok(())
            }
            Some(Stretch::Held { instead: Some((token, to)), .. })
                if is_fresh && *token == id && self.may_lead_to(*to) =>
            {
                let to = *to;
                self.enter(Some(to));
                // What the token says besides is a part of what it leads to.
                let bytes = self.written.text(id).to_vec();
                self.pass(&bytes);
                self.count(false);
                Ok(())
            }
            Some(Stretch::Held { then, .. }) => {
                let then = *then;
                let Some(matcher) = &mut self.matcher else { return Err(stuck("it holds nothing")) };
                let is_stopped = matcher.is_stopped() && !matcher.is_error();
                if is_end && is_stopped {
                    return Ok(());
                }
                matcher.consume_token(if is_end { end_id(self.n_vocab) } else { id }).map_err(stuck)?;
                if let Some(then) = then.filter(|_| matcher.is_stopped() && !is_end) {
                    self.enter(Some(then));
                }
                Ok(())
            }
        }
    }

    /// Whether the answer is complete and cannot be longer, so that generation may end at once.
    pub fn is_finished(&self) -> bool {
        match (self.stretch(), &self.matcher) {
            (None, _) => true,
            (Some(Stretch::Held { then: None, .. }), Some(matcher)) => {
                matcher.is_stopped() && !matcher.is_error()
            }
            _ => false,
        }
    }

    /// Go on with this stretch; with nothing but the end, where there is none.
    pub(super) fn enter(&mut self, at: Option<usize>) {
        self.at = at.map(|at| self.within_bound(at));
        self.is_fresh = true;
        self.watch = MarkerWatch::default();
        self.matcher = match self.stretch() {
            Some(Stretch::Held { matcher, .. }) => Some(matcher.deep_clone()),
            _ => None,
        };
    }

    /// Count a token that led to a stretch that is bounded, was in one or ended it, and go on where that was the last.
    fn count(&mut self, was_bounded: bool) {
        let is_bounded = matches!(self.stretch(), Some(Stretch::Free { bound: Some(_), .. }));
        self.n_bounded += usize::from(was_bounded || is_bounded);
        if let Some(at) = self.at.filter(|at| self.within_bound(*at) != *at) {
            self.enter(Some(at));
        }
    }

    /// Go on over bytes of free text, and into what their markers lead to.
    fn pass(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        while let Some(at) = self.at
            && let Stretch::Free { markers, .. } = &self.stretches[at]
            && let Some((to, rest)) = self.watch.push(&bytes, markers)
        {
            self.enter(Some(to));
            bytes = rest;
            if bytes.is_empty() {
                return;
            }
            if let Some(matcher) = &mut self.matcher {
                // A token went on beyond the marker. Where the grammar does not, the call stays as free as it began.
                let tokens: Option<Vec<TokenId>> =
                    bytes.iter().map(|&byte| self.written.bytes[usize::from(byte)]).collect();
                let fits = tokens.is_some_and(|tokens| {
                    matcher.validate_tokens(&tokens).is_ok_and(|n| n == tokens.len())
                        && matcher.consume_tokens(&tokens).is_ok()
                });
                if fits {
                    self.is_fresh = false;
                } else {
                    self.enter(Some(at));
                }
                return;
            }
        }
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

/// Holds another answer to the same, from where this one has come to: neither knows what becomes of the other.
impl Clone for Constraint {
    fn clone(&self) -> Constraint {
        Constraint {
            stretches: self.stretches.clone(),
            at: self.at,
            matcher: self.matcher.as_ref().map(Matcher::deep_clone),
            is_fresh: self.is_fresh,
            watch: self.watch.clone(),
            n_bounded: self.n_bounded,
            ends: Arc::clone(&self.ends),
            n_vocab: self.n_vocab,
            written: self.written.clone(),
        }
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("n_vocab", &self.n_vocab).finish_non_exhaustive()
    }
}

/// The number that stands for all tokens that end an answer.
pub(super) fn end_id(n_vocab: usize) -> TokenId {
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
