//! Compares logits with the reference, position by position.

use super::vectors::Reference;

/// What a run over texts adds up to.
#[derive(Debug, Clone)]
pub struct Score {
    pub n_positions: usize,
    /// Positions at which the reference's top-two gap exceeds the bound.
    pub n_clear: usize,
    /// Clear positions at which the best token is another one, and the widest gap among them.
    pub n_wrong: usize,
    pub widest_wrong: f32,
    /// Sums of -log p of the tokens that follow.
    pub nll: f64,
    pub reference_nll: f64,
    pub n_following: usize,
    /// How far the log-probabilities of the reference's best two are off.
    pub differences: Vec<f32>,
}

/// What of a position's logits is compared.
pub struct Outcome<'a> {
    pub logits: &'a [f32],
    best: usize,
    log_sum_exp: f64,
}

impl Outcome<'_> {
    pub fn of(logits: &[f32]) -> Outcome<'_> {
        Outcome { logits, best: argmax(logits), log_sum_exp: log_sum_exp(logits) }
    }

    fn logp(&self, token: u32) -> f64 {
        f64::from(self.logits[token as usize]) - self.log_sum_exp
    }
}

impl Score {
    /// Of no positions.
    pub const NONE: Score = Score {
        n_positions: 0,
        n_clear: 0,
        n_wrong: 0,
        widest_wrong: 0.0,
        nll: 0.0,
        reference_nll: 0.0,
        n_following: 0,
        differences: Vec::new(),
    };

    /// Take the outcome of position `at` of `text`.
    pub fn add(&mut self, text: &Reference, at: usize, outcome: &Outcome<'_>, bound: f32) {
        let reference = &text.positions[at];
        self.n_positions += 1;
        let (best, second) = (reference.top[0], reference.top[1]);
        let gap = best.1 - second.1;
        if gap > bound {
            self.n_clear += 1;
            if outcome.best != best.0 as usize {
                self.n_wrong += 1;
                self.widest_wrong = self.widest_wrong.max(gap);
            }
        }
        for (token, logp) in [best, second] {
            self.differences.push((outcome.logp(token) as f32 - logp).abs());
        }
        if let Some(&next) = text.tokens.get(at + 1) {
            self.nll -= outcome.logp(next);
            self.reference_nll -= f64::from(reference.following);
            self.n_following += 1;
        }
    }

    /// exp of the mean -log p, ours and the reference's.
    pub fn perplexities(&self) -> (f64, f64) {
        let n = self.n_following as f64;
        ((self.nll / n).exp(), (self.reference_nll / n).exp())
    }

    /// How far our perplexity is above the reference's, as a share of it.
    pub fn perplexity_error(&self) -> f64 {
        let (ours, reference) = self.perplexities();
        ours / reference - 1.0
    }

    /// Root mean square of the differences of log-probabilities.
    pub fn rms(&self) -> f64 {
        let sum: f64 = self.differences.iter().map(|x| f64::from(*x).powi(2)).sum();
        (sum / self.differences.len() as f64).sqrt()
    }

    /// What so many per cent of the differences of log-probabilities are not above.
    pub fn percentile(&self, percent: f64) -> f32 {
        let mut sorted = self.differences.clone();
        sorted.sort_by(f32::total_cmp);
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1]
    }

    /// One line, for a bound `gap` on the reference's top-two gap.
    pub fn summary(&self, gap: f32) -> String {
        let (ours, reference) = self.perplexities();
        format!(
            "gap above {gap} at {:.1} % of {} positions, next token another at {} of them (gap up to {:.3}); \
             perplexity {ours:.4} of {reference:.4} ({:+.3} %); log p off by {:.4} rms, {:.3} at 99 %, \
             {:.3} at 99.9 %, {:.3} at worst",
            100.0 * self.n_clear as f64 / self.n_positions as f64,
            self.n_positions,
            self.n_wrong,
            self.widest_wrong,
            100.0 * self.perplexity_error(),
            self.rms(),
            self.percentile(99.0),
            self.percentile(99.9),
            self.percentile(100.0),
        )
    }
}

fn argmax(logits: &[f32]) -> usize {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|x| *x == max).unwrap_or(0)
}

/// ln Σ exp(x), the exponentials by a polynomial that is good to 1e-6 and that compilers vectorise.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum_of = |piece: &[f32]| -> f32 {
        let mut lanes = [0.0_f32; 16];
        for chunk in piece.chunks(16) {
            chunk.iter().zip(&mut lanes).for_each(|(x, lane)| *lane += exp(x - max));
        }
        lanes.iter().sum()
    };
    let sum: f64 = logits.chunks(1024).map(|piece| f64::from(sum_of(piece))).sum();
    f64::from(max) + sum.ln()
}

#[inline(always)]
fn exp(x: f32) -> f32 {
    let t = x.max(-87.0) * std::f32::consts::LOG2_E;
    // Adding 1.5 · 2^23 rounds to an integer, which then stands in the low bits.
    let shifted = t + 12_582_912.0;
    let f = (t - (shifted - 12_582_912.0)) * std::f32::consts::LN_2;
    let p = 1.0 + f * (1.0 + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f / 720.0)))));
    f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23)) * p
}
