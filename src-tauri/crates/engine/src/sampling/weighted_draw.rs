//! Drawing from a whole vocabulary, or from its nucleus, without finding out which tokens the nucleus has.
//!
//! A token belongs to the nucleus when all better ones together weigh less than the wanted share: one sum tells.
//! So a token is drawn from all, and when it turns out not to belong, another one is drawn from those better than
//! it, which all of the nucleus is among. That is the nucleus's own distribution, for the share of draws that a
//! token gets among the better ones is its share there. Each miss cuts what is left, on average to half.

use kernels::isa::Isa;
use kernels::softmax::{BLOCK, sums_at_least, weigh};
use scheduler::TokenId;

use super::candidates::{Candidate, Survey};
use super::random::Dice;

/// What is drawn from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Odds {
    /// One over the temperature.
    pub(super) scale: f32,
    /// The share of the weight that the nucleus has; 1 for everything.
    pub(super) top_p: f64,
    /// Tokens below this logit are never drawn; the best one is not below it.
    pub(super) floor: f32,
}

/// Weights of tokens, and of the blocks of those that may be drawn.
#[derive(Debug)]
pub(super) struct WeightedDraw {
    isa: Isa,
    logits: Vec<f32>,
    weights: Vec<f32>,
    sums: Vec<f32>,
}

/// Tokens above `logit`, and of those at it the ones before `token`.
#[derive(Debug, Clone, Copy)]
struct Above {
    logit: f32,
    token: TokenId,
}

impl Above {
    fn includes(self, token: TokenId, logit: f32) -> bool {
        logit > self.logit || (logit == self.logit && token < self.token)
    }
}

impl Default for WeightedDraw {
    fn default() -> WeightedDraw {
        WeightedDraw { isa: Isa::detect(), logits: Vec::new(), weights: Vec::new(), sums: Vec::new() }
    }
}

impl WeightedDraw {
    /// Weigh a row against its maximum, which weighs 1; returns the sum.
    pub(super) fn weigh(&mut self, values: &[f32], max: f32, scale: f32) -> f64 {
        self.weights.resize(values.len(), 0.0);
        self.sums.resize(values.len().div_ceil(BLOCK), 0.0);
        weigh(self.isa, values, max, scale, &mut self.weights, &mut self.sums);
        total(&self.sums)
    }

    /// The weights of `candidates`, in their order.
    pub(super) fn weigh_candidates(&mut self, candidates: &[Candidate], max: f32, scale: f32) -> &[f32] {
        let mut logits = std::mem::take(&mut self.logits);
        logits.clear();
        logits.extend(candidates.iter().map(|candidate| candidate.logit));
        self.weigh(&logits, max, scale);
        self.logits = logits;
        &self.weights
    }

    /// A token of a row that `survey` has seen.
    pub(super) fn draw(&mut self, values: &[f32], survey: &Survey, odds: Odds, dice: Dice) -> TokenId {
        let mut left = self.weigh(values, survey.max(), odds.scale);
        let wanted = odds.top_p * left;
        let mut drawable = Above { logit: odds.floor, token: TokenId::MAX };
        if odds.floor > f32::NEG_INFINITY {
            left = self.keep(values, survey, drawable);
        }
        let mut n_throws = 0;
        loop {
            let Some(token) = self.pick(values, drawable, dice.throw(n_throws) * left) else {
                return survey.argmax(values);
            };
            if odds.top_p >= 1.0 {
                return token;
            }
            drawable = Above { logit: values[token as usize], token };
            left = self.keep(values, survey, drawable);
            // What weighs nothing beside the others cannot be drawn, and must not be waited for.
            if left < wanted || left <= 0.0 {
                return token;
            }
            n_throws += 1;
        }
    }

    /// Leave only the tokens of `drawable` in the sums of the blocks; returns what they weigh.
    fn keep(&mut self, values: &[f32], survey: &Survey, drawable: Above) -> f64 {
        let WeightedDraw { isa, weights, sums, .. } = self;
        let maxima = survey.maxima();
        let border = (drawable.token as usize / BLOCK).min(maxima.len());
        let (start, end) = ((border * BLOCK).min(values.len()), ((border + 1) * BLOCK).min(values.len()));
        // Equals count before the token, not after it.
        sums_at_least(
            *isa,
            &values[..start],
            &weights[..start],
            &maxima[..border],
            drawable.logit,
            &mut sums[..border],
        );
        if start < end {
            let inside = (start..end).filter(|&i| drawable.includes(i as TokenId, values[i]));
            sums[border] = inside.map(|i| weights[i]).sum();
            let limit = drawable.logit.next_up();
            sums_at_least(
                *isa,
                &values[end..],
                &weights[end..],
                &maxima[border + 1..],
                limit,
                &mut sums[border + 1..],
            );
        }
        total(sums)
    }

    /// The token of `drawable` at which the weights, in the order of ids, reach `left`; none when rounding has left
    /// something at the end.
    fn pick(&self, values: &[f32], drawable: Above, mut left: f64) -> Option<TokenId> {
        for (block_idx, &sum) in self.sums.iter().enumerate() {
            if left >= f64::from(sum) {
                left -= f64::from(sum);
                continue;
            }
            let block = block_idx * BLOCK..((block_idx + 1) * BLOCK).min(values.len());
            let weighed = block.clone().zip(&values[block.clone()]).zip(&self.weights[block]);
            let mut last = None;
            for ((i, &value), &weight) in weighed {
                if weight > 0.0 && drawable.includes(i as TokenId, value) {
                    last = Some(i as TokenId);
                    left -= f64::from(weight);
                    if left < 0.0 {
                        break;
                    }
                }
            }
            // The block's sum may have been rounded up: its last token it is then.
            return last;
        }
        None
    }
}

fn total(sums: &[f32]) -> f64 {
    sums.iter().map(|&sum| f64::from(sum)).sum()
}
