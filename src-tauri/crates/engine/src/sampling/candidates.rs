//! Finding the likeliest tokens of a vocabulary without sorting it.

use scheduler::TokenId;

use super::NotFinite;
use super::exp::{LANES, exp};

/// Tokens of a block whose maximum is kept.
const BLOCK: usize = 64;

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: TokenId,
    pub(super) logit: f32,
}

/// The maxima of a row's blocks, found in one pass.
#[derive(Debug, Default)]
pub(super) struct Survey {
    maxima: Vec<f32>,
    max: f32,
    /// A copy of `maxima` to select in.
    ranked: Vec<f32>,
    /// Candidates with their weights, to select in.
    weighed: Vec<(Candidate, f64)>,
}

impl Survey {
    /// Look at a row.
    ///
    /// # Errors
    /// A value is not finite.
    pub(super) fn take(&mut self, values: &[f32]) -> Result<(), NotFinite> {
        self.maxima.clear();
        // `v * 0` is 0 for finite values and NaN for the others, and NaN stays NaN in a sum.
        let mut finite = [0f32; LANES];
        for block in values.chunks(BLOCK) {
            let mut lanes = [f32::NEG_INFINITY; LANES];
            let mut chunks = block.chunks_exact(LANES);
            for chunk in &mut chunks {
                for i in 0..LANES {
                    let value = chunk[i];
                    finite[i] += value * 0.0;
                    lanes[i] = if value > lanes[i] { value } else { lanes[i] };
                }
            }
            let mut max = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
            for &value in chunks.remainder() {
                finite[0] += value * 0.0;
                max = max.max(value);
            }
            self.maxima.push(max);
        }
        self.max = self.maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if finite.iter().sum::<f32>() == 0.0 && !values.is_empty() { Ok(()) } else { Err(NotFinite) }
    }

    /// The row's maximum.
    pub(super) fn max(&self) -> f32 {
        self.max
    }

    /// The token with the greatest value, of equals the first.
    pub(super) fn argmax(&self, values: &[f32]) -> TokenId {
        let block = self.maxima.iter().position(|&m| m == self.max).unwrap_or(0) * BLOCK;
        let within = values[block..].iter().position(|&v| v == self.max).unwrap_or(0);
        (block + within) as TokenId
    }

    /// Every token whose value is at least `floor`, in the order of ids.
    pub(super) fn at_least(&self, values: &[f32], floor: f32, out: &mut Vec<Candidate>) {
        out.clear();
        for (block_idx, &max) in self.maxima.iter().enumerate() {
            if max < floor {
                continue;
            }
            let start = block_idx * BLOCK;
            let end = (start + BLOCK).min(values.len());
            for (token, &logit) in (start..end).zip(&values[start..end]) {
                if logit >= floor {
                    out.push(Candidate { token: token as TokenId, logit });
                }
            }
        }
    }

    /// The `n` likeliest tokens, best first, of equals the lower id first.
    pub(super) fn top(&mut self, values: &[f32], n: usize, out: &mut Vec<Candidate>) {
        // The n-th greatest maximum is a bound: n blocks have a value that reaches it.
        let floor = if n < self.maxima.len() {
            self.ranked.clear();
            self.ranked.extend_from_slice(&self.maxima);
            *self.ranked.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a)).1
        } else {
            f32::NEG_INFINITY
        };
        self.at_least(values, floor, out);
        if n < out.len() {
            out.select_nth_unstable_by(n - 1, better);
            out.truncate(n);
        }
        out.sort_unstable_by(better);
    }

    /// The smallest set of likeliest tokens whose weights reach `wanted`, in the order of ids.
    pub(super) fn nucleus(
        &mut self,
        values: &[f32],
        out: &mut Vec<Candidate>,
        max: f32,
        scale: f32,
        wanted: f64,
    ) {
        // Most nuclei lie within e^-6 of the best token. A flat distribution needs a wider look, at most all of it.
        let mut width = 6.0;
        loop {
            let floor = if width > 90.0 { f32::NEG_INFINITY } else { max - width / scale };
            self.at_least(values, floor, out);
            self.weighed.clear();
            self.weighed.extend(out.iter().map(|&c| (c, super::weight(c.logit, max, scale))));
            let sum: f64 = self.weighed.iter().map(|(_, weight)| weight).sum();
            if sum >= wanted {
                break;
            }
            if floor == f32::NEG_INFINITY {
                return;
            }
            width *= 2.0;
        }
        let last = last_needed(&mut self.weighed, wanted);
        out.retain(|c| better(c, &last).is_le());
    }

    /// Draw from the whole row; `draw` is in `0.0..1.0`.
    pub(super) fn draw_from_all(&mut self, values: &[f32], scale: f32, draw: f64) -> TokenId {
        let max = self.max;
        // The weights of the blocks, in the place of the maxima's copy.
        self.ranked.clear();
        for block in values.chunks(BLOCK) {
            let mut lanes = [0f32; LANES];
            let mut chunks = block.chunks_exact(LANES);
            for chunk in &mut chunks {
                for (lane, &value) in lanes.iter_mut().zip(chunk) {
                    *lane += exp((value - max) * scale);
                }
            }
            let rest: f32 = chunks.remainder().iter().map(|&value| exp((value - max) * scale)).sum();
            self.ranked.push(lanes.iter().sum::<f32>() + rest);
        }
        let mut left = draw * self.ranked.iter().map(|&w| f64::from(w)).sum::<f64>();
        let mut last = self.argmax(values);
        for (block_idx, &block_weight) in self.ranked.iter().enumerate() {
            if left >= f64::from(block_weight) {
                left -= f64::from(block_weight);
                continue;
            }
            let start = block_idx * BLOCK;
            for (token, &value) in (start..).zip(&values[start..(start + BLOCK).min(values.len())]) {
                let weight = super::weight(value, max, scale);
                if weight > 0.0 {
                    last = token as TokenId;
                }
                left -= weight;
                if left < 0.0 {
                    return last;
                }
            }
            // The block's weight was rounded up: its last possible token it is.
            return last;
        }
        last
    }
}

/// The candidate with which the weights, likeliest first, reach `wanted`; they do reach it.
///
/// Halves the range like a search: which half holds the candidate is known from the weight of the better one.
/// That is linear in their number, where sorting is not.
fn last_needed(weighed: &mut [(Candidate, f64)], mut wanted: f64) -> Candidate {
    let mut range = weighed;
    while range.len() > 1 {
        let half = range.len() / 2;
        range.select_nth_unstable_by(half - 1, |(a, _), (b, _)| better(a, b));
        let (upper, lower) = range.split_at_mut(half);
        let sum: f64 = upper.iter().map(|(_, weight)| weight).sum();
        if sum >= wanted {
            range = upper;
        } else {
            wanted -= sum;
            range = lower;
        }
    }
    range.first().map_or(Candidate { token: 0, logit: f32::NEG_INFINITY }, |(candidate, _)| *candidate)
}

/// Likelier first, of equals the lower id.
fn better(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}
