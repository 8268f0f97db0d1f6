//! Finding the likeliest tokens of a vocabulary without sorting it.

use kernels::isa::Isa;
use kernels::softmax::{BLOCK, block_maxima};
use scheduler::TokenId;

/// A row of logits with a value that is not finite: the row's sequence cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a logit that is not finite")]
pub(crate) struct NotFinite;

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: TokenId,
    pub(super) logit: f32,
}

/// The maxima of a row's blocks, found in one pass.
#[derive(Debug)]
pub(super) struct Survey {
    isa: Isa,
    maxima: Vec<f32>,
    max: f32,
    /// A copy of `maxima` to select in.
    ranked: Vec<f32>,
}

impl Default for Survey {
    fn default() -> Survey {
        Survey { isa: Isa::detect(), maxima: Vec::new(), max: f32::NEG_INFINITY, ranked: Vec::new() }
    }
}

impl Survey {
    /// Look at a row.
    ///
    /// # Errors
    /// A value is not finite, or there is none.
    pub(super) fn take(&mut self, values: &[f32]) -> Result<(), NotFinite> {
        self.maxima.resize(values.len().div_ceil(BLOCK), 0.0);
        let is_finite = block_maxima(self.isa, values, &mut self.maxima);
        self.max = self.maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if is_finite && !values.is_empty() { Ok(()) } else { Err(NotFinite) }
    }

    /// The row's maximum.
    pub(super) fn max(&self) -> f32 {
        self.max
    }

    /// The maximum of each block of [`BLOCK`] values.
    pub(super) fn maxima(&self) -> &[f32] {
        &self.maxima
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
}

/// Likelier first, of equals the lower id.
fn better(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}
