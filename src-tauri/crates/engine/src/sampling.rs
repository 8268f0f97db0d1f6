//! The choice of the next token from a row of logits.
//!
//! The order is: logit bias, penalties, the mask of a constraint, temperature, top-k, top-p, min-p, draw.
//! Penalties count the answer's last free tokens, never the prompt, which an answer may have to copy. Where a
//! constraint holds the answer there are none, and what is said there counts for none: a document repeats its keys
//! and its punctuation.
//! Nothing here sorts a vocabulary: one pass finds the maxima of blocks of tokens, another weighs them, and after
//! that only blocks that can matter are looked into. The passes are `kernels::softmax`'s.
//! The random numbers of a token depend on the request's seed and the token's place in its answer only,
//! so the same seed gives the same answer in any batch.

mod candidates;
mod random;
mod recent;
mod weighted_draw;

use scheduler::TokenId;
use text::{ConstraintError, TokenMask};

use crate::told::event::TokenLogprob;
use crate::told::request::Sampling;
use candidates::{Candidate, NotFinite, Survey};
use random::Dice;
use recent::Recent;
use weighted_draw::{Odds, WeightedDraw};

pub(crate) use random::fresh_seed;

/// Why no token can be chosen from a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CannotSample {
    /// The row cannot be used, nor the KV behind it.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// The answer cannot go on within its format.
    #[error(transparent)]
    Stuck(#[from] ConstraintError),
}

/// Buffers that all rows of a step use in turn, so that sampling does not allocate.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    adjusted: Vec<f32>,
    drawing: Drawing,
    /// The tokens that a mask allows, ascending, and their values.
    allowed: Vec<TokenId>,
    allowed_values: Vec<f32>,
}

/// What choosing from one row needs.
#[derive(Debug, Default)]
struct Drawing {
    survey: Survey,
    candidates: Vec<Candidate>,
    weighted: WeightedDraw,
}

/// Chooses one request's tokens.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    seed: u64,
    /// What a penalty touches.
    recent: Recent,
    n_sampled: u64,
}

impl Sampler {
    /// A sampler for a request; `fresh_seed` serves one that fixes none.
    pub(crate) fn new(sampling: Sampling, fresh_seed: u64) -> Sampler {
        let seed = sampling.seed.unwrap_or(fresh_seed);
        let recent = Recent::new(sampling.penalty_window);
        Sampler { sampling, seed, recent, n_sampled: 0 }
    }

    /// The next token for `logits`, one for each token of the vocabulary; one of those that `mask` allows.
    ///
    /// # Errors
    /// A logit is not finite, or the mask allows no token of the row.
    pub(crate) fn sample(
        &mut self,
        logits: &[f32],
        mask: Option<&TokenMask>,
        scratch: &mut Scratch,
    ) -> Result<TokenId, CannotSample> {
        let Scratch { adjusted, drawing, allowed, allowed_values } = scratch;
        drawing.survey.take(logits)?;
        let is_free = mask.is_none();
        let penalised = is_free && self.penalises() && !self.recent.is_empty();
        let values = if penalised || !self.sampling.logit_bias.is_empty() {
            adjusted.clear();
            adjusted.extend_from_slice(logits);
            self.bias(adjusted);
            if penalised {
                self.penalise(adjusted);
            }
            // A bias cannot make a finite logit more than huge, and a survey of huge ones is still sound.
            drawing.survey.take(adjusted)?;
            &adjusted[..]
        } else {
            logits
        };
        let token = match mask {
            None => self.choose(values, drawing),
            Some(mask) => {
                // The row of the allowed tokens alone: no rounding can draw another one from it.
                allowed.clear();
                allowed.extend(mask.allowed().take_while(|&token| (token as usize) < values.len()));
                if allowed.is_empty() {
                    return Err(ConstraintError::Stuck("no token may come next".to_owned()).into());
                }
                allowed_values.clear();
                allowed_values.extend(allowed.iter().map(|&token| values[token as usize]));
                drawing.survey.take(allowed_values)?;
                allowed[self.choose(allowed_values, drawing) as usize]
            }
        };
        self.n_sampled += 1;
        if is_free && self.penalises() {
            self.recent.push(token);
        }
        Ok(token)
    }

    /// The place in `values`, which the survey has seen, that is drawn.
    fn choose(&self, values: &[f32], drawing: &mut Drawing) -> u32 {
        if self.sampling.temperature <= 0.0 {
            drawing.survey.argmax(values)
        } else {
            let dice = Dice { seed: self.seed, place: self.n_sampled };
            draw_token(&self.sampling, values, drawing, dice)
        }
    }

    /// Whether generated tokens change later logits.
    fn penalises(&self) -> bool {
        let s = &self.sampling;
        s.frequency_penalty != 0.0 || s.presence_penalty != 0.0 || s.repetition_penalty != 1.0
    }

    fn bias(&self, logits: &mut [f32]) {
        for &(token, bias) in &self.sampling.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = (*logit + bias).clamp(f32::MIN, f32::MAX);
            }
        }
    }

    fn penalise(&self, logits: &mut [f32]) {
        let s = &self.sampling;
        for (token, n_generated) in self.recent.counts() {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            let mut value = *logit;
            if s.repetition_penalty != 1.0 {
                value = if value > 0.0 { value / s.repetition_penalty } else { value * s.repetition_penalty };
            }
            value -= s.presence_penalty + s.frequency_penalty * n_generated as f32;
            *logit = value.clamp(f32::MIN, f32::MAX);
        }
    }
}

/// Draw from the distribution that the filters leave.
fn draw_token(sampling: &Sampling, values: &[f32], drawing: &mut Drawing, dice: Dice) -> TokenId {
    let Drawing { survey, candidates, weighted } = drawing;
    let max = survey.max();
    let top_p = f64::from(sampling.top_p);
    // Finite at any temperature, so that the best token weighs 1.
    let scale = (1.0 / sampling.temperature).min(f32::MAX);
    // A token at least `min_p` as likely as the best one has at least this logit.
    let floor = match sampling.min_p > 0.0 {
        true => (max + sampling.min_p.ln() / scale).min(max),
        false => f32::NEG_INFINITY,
    };
    if sampling.top_k > 0 {
        survey.top(values, sampling.top_k, candidates);
    } else if sampling.min_p > 0.0 && top_p >= 1.0 {
        survey.at_least(values, floor, candidates);
    } else {
        return weighted.draw(values, survey, Odds { scale, top_p, floor }, dice);
    }
    let weights = weighted.weigh_candidates(candidates, max, scale);
    // The candidates are sorted where top-p or min-p can still leave some of them out.
    let n_likely = if top_p < 1.0 { n_reaching(weights, top_p) } else { candidates.len() };
    let n_left = candidates[..n_likely].iter().take_while(|c| c.logit >= floor).count();
    let total: f64 = weights[..n_left].iter().map(|&w| f64::from(w)).sum();
    let mut left = dice.throw(0) * total;
    for (candidate, &weight) in candidates[..n_left].iter().zip(weights) {
        left -= f64::from(weight);
        if left < 0.0 {
            return candidate.token;
        }
    }
    candidates[..n_left].last().map_or_else(|| survey.argmax(values), |c| c.token)
}

/// How many of the leading weights it takes to reach this share of them all.
fn n_reaching(weights: &[f32], share: f64) -> usize {
    let wanted = share * weights.iter().map(|&w| f64::from(w)).sum::<f64>();
    let mut sum = 0.0;
    let reaches = |&weight: &f32| {
        sum += f64::from(weight);
        sum >= wanted
    };
    weights.iter().position(reaches).map_or(weights.len(), |i| i + 1)
}

/// The log-probability of `token` under the unmodified distribution, with the `n_top` likeliest tokens.
///
/// # Errors
/// A logit is not finite.
pub(crate) fn logprob(
    logits: &[f32],
    token: TokenId,
    n_top: usize,
    scratch: &mut Scratch,
) -> Result<TokenLogprob, NotFinite> {
    let Drawing { survey, candidates, weighted } = &mut scratch.drawing;
    survey.take(logits)?;
    let max = survey.max();
    let log_sum = weighted.weigh(logits, max, 1.0).ln() as f32 + max;
    candidates.clear();
    if n_top > 0 {
        survey.top(logits, n_top, candidates);
    }
    let own = logits.get(token as usize).copied().unwrap_or(f32::MIN);
    Ok(TokenLogprob {
        token,
        logprob: own - log_sum,
        top: candidates.iter().map(|c| (c.token, c.logit - log_sum)).collect(),
    })
}

#[cfg(test)]
mod tests;
