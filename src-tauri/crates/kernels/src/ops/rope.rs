//! Rotary position embedding: angles, and turning the pairs of a head's vector.

use crate::threads::{SharedMut, Threads};

/// Which two values of a head's vector are turned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RopePairs {
    /// Values `2i` and `2i + 1`: GGUF's order for the llama family.
    Interleaved,
    /// Values `i` and `i + n_rot / 2` ("neox").
    Halves,
}

/// How far YaRN stretches which pairs: slow ones as linear scaling does, fast ones not at all, and those between them in
/// part (Peng et al. 2023, "YaRN", section 3.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// The base of the rotation's frequencies.
    pub base: f64,
    /// Slow pairs turn by so much less.
    pub factor: f64,
    /// Positions that the frequencies were trained on.
    pub original_context: f64,
    /// Pairs that turn more often than this over those positions are fast.
    pub beta_fast: f64,
    /// Pairs that turn less often than this are slow.
    pub beta_slow: f64,
    /// How much of their speed fast pairs keep: 1 is all of it.
    pub kept: f64,
}

/// The rotary embedding of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    pairs: RopePairs,
    /// Radians per position, one for each pair.
    frequencies: Vec<f64>,
    magnitude: f64,
}

impl Rope {
    /// Turns the first `n_rot` values (an even number) of a head's vector.
    ///
    /// Pair `i` turns by `base^(−2i / n_rot) · position_scale / divisors[i]` a position; `position_scale` is
    /// the reciprocal of a linear scaling factor, `divisors` (one for each pair) are a model's own factors.
    ///
    /// # Panics
    /// When `n_rot` is odd or `divisors` has another length than there are pairs.
    pub fn new(
        pairs: RopePairs,
        n_rot: usize,
        base: f64,
        position_scale: f64,
        divisors: Option<&[f32]>,
    ) -> Rope {
        assert!(n_rot.is_multiple_of(2), "{n_rot} rotated values are no pairs");
        let n_pairs = n_rot / 2;
        if let Some(divisors) = divisors {
            assert_eq!(divisors.len(), n_pairs, "rope divisors for {n_pairs} pairs");
        }
        let frequency = |i: usize| {
            let divisor = divisors.map_or(1.0, |d| f64::from(d[i]));
            base.powf(-2.0 * i as f64 / n_rot as f64) * position_scale / divisor
        };
        Rope::from_frequencies(pairs, (0..n_pairs).map(frequency).collect(), 1.0)
    }

    /// Any other scaling: the radians per position of each pair, and a factor on the turned values.
    pub fn from_frequencies(pairs: RopePairs, frequencies: Vec<f64>, magnitude: f64) -> Rope {
        Rope { pairs, frequencies, magnitude }
    }

    /// This rotation, which must not be scaled yet, stretched by YaRN.
    pub fn by_yarn(self, yarn: &Yarn) -> Rope {
        let Rope { pairs, mut frequencies, magnitude } = self;
        let n_rot = 2.0 * frequencies.len() as f64;
        // The pair that turns `turns` times, which need not be a whole number.
        let pair = |turns: f64| {
            let wave = yarn.original_context / (turns * std::f64::consts::TAU);
            n_rot * wave.ln() / (2.0 * yarn.base.ln())
        };
        let first = pair(yarn.beta_fast).floor().max(0.0);
        let last = pair(yarn.beta_slow).ceil().min(n_rot - 1.0);
        for (i, frequency) in frequencies.iter_mut().enumerate() {
            let slow = ((i as f64 - first) / (last - first).max(0.001)).clamp(0.0, 1.0);
            let kept = (1.0 - slow) * yarn.kept;
            *frequency *= (1.0 - kept) / yarn.factor + kept;
        }
        Rope { pairs, frequencies, magnitude }
    }

    /// This rotation, which also multiplies what it turns.
    pub fn times(self, magnitude: f64) -> Rope {
        Rope { magnitude: self.magnitude * magnitude, ..self }
    }

    /// Values of a head's vector that are turned.
    pub fn n_rot(&self) -> usize {
        2 * self.frequencies.len()
    }
}

/// The sines and cosines of a step's tokens: computed once, used by every layer with the same embedding.
#[derive(Debug, Clone)]
pub struct RopeTable {
    pairs: RopePairs,
    n_pairs: usize,
    n_tokens: usize,
    /// `[n_tokens][2][n_pairs]`: cosines, then sines.
    values: Vec<f32>,
}

impl RopeTable {
    /// An empty table; memory is kept from one [`RopeTable::fill`] to the next.
    pub fn new() -> RopeTable {
        RopeTable { pairs: RopePairs::Halves, n_pairs: 0, n_tokens: 0, values: Vec::new() }
    }

    /// Computes the table of tokens at `positions`, in the order in which the step packs them.
    ///
    /// Angles are computed in f64, so that far positions are as exact as near ones.
    pub fn fill(&mut self, threads: &Threads, rope: &Rope, positions: &[usize]) {
        let n_pairs = rope.frequencies.len();
        (self.pairs, self.n_pairs, self.n_tokens) = (rope.pairs, n_pairs, positions.len());
        self.values.resize(positions.len() * 2 * n_pairs, 0.0);
        let values = SharedMut::new(&mut self.values);
        let per_worker = positions.len().div_ceil(threads.n()).max(16);
        threads.for_each(positions.len(), per_worker, |tokens| {
            for t in tokens {
                // SAFETY: a token is in one range, and its values are its own.
                #[expect(unsafe_code, reason = "workers write disjoint tokens")]
                let row = unsafe { values.range(2 * n_pairs * t..2 * n_pairs * (t + 1)) };
                let (cosines, sines) = row.split_at_mut(n_pairs);
                for ((c, s), frequency) in cosines.iter_mut().zip(sines).zip(&rope.frequencies) {
                    let (sin, cos) = (positions[t] as f64 * frequency).sin_cos();
                    (*c, *s) = ((cos * rope.magnitude) as f32, (sin * rope.magnitude) as f32);
                }
            }
        });
    }

    /// Tokens it was filled for.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// The table itself, `[n_tokens][2][n_pairs]`: a token's cosines, then its sines.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Values of a head's vector that it turns.
    pub fn n_rot(&self) -> usize {
        2 * self.n_pairs
    }

    /// Turns the vector `x` of a head of token `token`.
    #[inline(always)]
    pub(crate) fn turn(&self, token: usize, x: &mut [f32]) {
        let n = self.n_pairs;
        let (cosines, sines) = self.values[2 * n * token..2 * n * (token + 1)].split_at(n);
        match self.pairs {
            RopePairs::Halves => {
                let (low, high) = x[..2 * n].split_at_mut(n);
                for (((a, b), c), s) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                    (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
                }
            }
            RopePairs::Interleaved => {
                for ((pair, c), s) in x[..2 * n].chunks_exact_mut(2).zip(cosines).zip(sines) {
                    (pair[0], pair[1]) = (pair[0] * c - pair[1] * s, pair[1] * c + pair[0] * s);
                }
            }
        }
    }
}

impl Default for RopeTable {
    fn default() -> Self {
        RopeTable::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in f64.
    fn turned(
        pairs: RopePairs,
        x: &[f32],
        n_rot: usize,
        frequency: impl Fn(usize) -> f64,
        p: usize,
    ) -> Vec<f64> {
        let mut y: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        for i in 0..n_rot / 2 {
            let (a, b) = match pairs {
                RopePairs::Interleaved => (2 * i, 2 * i + 1),
                RopePairs::Halves => (i, i + n_rot / 2),
            };
            let (sin, cos) = (p as f64 * frequency(i)).sin_cos();
            (y[a], y[b]) = (y[a] * cos - y[b] * sin, y[b] * cos + y[a] * sin);
        }
        y
    }

    #[test]
    fn vectors_turn_as_defined_at_near_and_far_positions() {
        let threads = Threads::new(2);
        let positions = [0, 1, 17, 4095, 131_071];
        for pairs in [RopePairs::Interleaved, RopePairs::Halves] {
            for (dim, n_rot) in [(64, 64), (80, 20), (256, 256), (6, 4)] {
                let divisors: Vec<f32> = (0..n_rot / 2).map(|i| 1.0 + i as f32 / 8.0).collect();
                let rope = Rope::new(pairs, n_rot, 10_000.0, 0.25, Some(&divisors));
                let mut table = RopeTable::new();
                table.fill(&threads, &rope, &positions);
                for (token, p) in positions.iter().enumerate() {
                    let x: Vec<f32> = (0..dim).map(|i| ((i * 37 + token) % 19) as f32 - 9.0).collect();
                    let frequency = |i: usize| {
                        10_000f64.powf(-2.0 * i as f64 / n_rot as f64) / 4.0 / f64::from(divisors[i])
                    };
                    let want = turned(pairs, &x, n_rot, frequency, *p);
                    let mut got = x.clone();
                    table.turn(token, &mut got);
                    assert!(got.iter().zip(&want).all(|(g, w)| (f64::from(*g) - w).abs() < 3e-6));
                    assert_eq!(got[n_rot..], x[n_rot..]);
                }
            }
        }
    }

    #[test]
    fn a_token_turns_alike_alone_and_among_others() {
        let rope = Rope::new(RopePairs::Halves, 64, 1e6, 1.0, None);
        let (mut alone, mut many) = (RopeTable::new(), RopeTable::new());
        alone.fill(&Threads::new(1), &rope, &[777]);
        many.fill(&Threads::new(3), &rope, &(700..900).collect::<Vec<_>>());
        let (mut a, mut b) = ([1.5f32; 64], [1.5f32; 64]);
        alone.turn(0, &mut a);
        many.turn(77, &mut b);
        assert_eq!(a.map(f32::to_bits), b.map(f32::to_bits));
    }

    /// The definition in the words of its authors' code, for pairs that no factor divides.
    fn yarn_frequency(i: usize, n_rot: usize, yarn: &Yarn) -> f64 {
        let dim = |turns: f64| {
            n_rot as f64 * (yarn.original_context / (turns * 2.0 * std::f64::consts::PI)).ln()
                / (2.0 * yarn.base.ln())
        };
        let low = dim(yarn.beta_fast).floor().max(0.0);
        let high = dim(yarn.beta_slow).ceil().min(n_rot as f64 - 1.0);
        let extrapolated = yarn.base.powf(-2.0 * i as f64 / n_rot as f64);
        let interpolated = extrapolated / yarn.factor;
        let mask = (1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0)) * yarn.kept;
        interpolated * (1.0 - mask) + extrapolated * mask
    }

    #[test]
    fn yarn_leaves_fast_pairs_stretches_slow_ones_and_those_between_in_part() {
        let yarn = |base, factor, original_context, kept| Yarn {
            base,
            factor,
            original_context,
            beta_fast: 32.0,
            beta_slow: 1.0,
            kept,
        };
        // Real models' and small ones.
        for (n_rot, yarn) in [
            (128, yarn(1e6, 16.0, 16384.0, 1.0)),
            (64, yarn(150_000.0, 32.0, 4096.0, 1.0)),
            (128, yarn(1e6, 4.0, 32768.0, 0.5)),
            (16, yarn(1e4, 8.0, 32.0, 1.0)),
        ] {
            let rope = Rope::new(RopePairs::Halves, n_rot, yarn.base, 1.0, None);
            let plain = rope.frequencies.clone();
            let stretched = rope.by_yarn(&yarn).frequencies;
            for (i, got) in stretched.iter().enumerate() {
                let want = yarn_frequency(i, n_rot, &yarn);
                assert!((got - want).abs() <= 1e-12 * want, "pair {i} of {n_rot}: {got}, not {want}");
            }
            let (first, last) = (stretched[0] / plain[0], stretched[n_rot / 2 - 1] / plain[n_rot / 2 - 1]);
            assert!(last < first && (last - 1.0 / yarn.factor).abs() < 1e-12);
        }
    }

    #[test]
    fn yarn_of_any_numbers_turns_by_numbers() {
        for base in [1e-30, 1.0, 1e30] {
            for extreme in [1e-30, 1.0, 1e30] {
                for (beta_fast, beta_slow) in [(1e-30, 1e30), (1e30, 1e-30)] {
                    let (factor, original_context, kept) = (extreme, extreme, 1.0);
                    let yarn = Yarn { base, factor, original_context, beta_fast, beta_slow, kept };
                    let rope = Rope::new(RopePairs::Halves, 8, base, 1.0, None).by_yarn(&yarn);
                    assert!(rope.frequencies.iter().all(|x| x.is_finite()), "{yarn:?}");
                }
            }
        }
    }

    #[test]
    fn magnitude_scales_what_is_turned() {
        let rope = Rope::from_frequencies(RopePairs::Interleaved, vec![0.5, 0.25], 1.0).times(2.0);
        let mut table = RopeTable::default();
        table.fill(&Threads::new(1), &rope, &[0]);
        let mut x = [1.0, 2.0, 3.0, 4.0, 5.0];
        table.turn(0, &mut x);
        assert_eq!(x, [2.0, 4.0, 6.0, 8.0, 5.0]);
    }
}
