//! Which experts a token goes through, and what each weighs.
#![allow(unsafe_code)]

use crate::isa::Isa;
use crate::simd::{LANES, Simd, simd_dispatch};
use crate::threads::{SharedMut, Threads};
use crate::vmath;

/// Sums of weights count as at least this when weights are divided by them: the smallest normal number of half
/// precision.
const MIN_SUM: f32 = 6.103_515_6e-5;

/// Tokens that a worker takes at a time.
const GRAIN: usize = 16;

/// How experts are chosen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Router {
    /// Experts to choose from.
    pub n_experts: usize,
    /// Experts that a token goes through, at most as many as may be chosen from.
    pub n_used: usize,
    /// What is made of logits before the choice.
    pub scoring: Scoring,
    /// Groups of experts that are chosen first, if there are.
    pub groups: Option<ExpertGroups>,
    /// Weights are divided by their sum.
    pub is_normalised: bool,
    /// Weights are multiplied by this at last.
    pub scale: f32,
}

/// What scores are made of logits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scoring {
    /// Softmax over all experts.
    Softmax,
    /// Each logit's sigmoid.
    Sigmoid,
    /// The logits themselves choose; what weighs is their softmax over those that were chosen.
    SoftmaxOfChosen,
}

/// Groups of as many consecutive experts each, of which only the best are chosen from: those whose two best experts
/// have the largest sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpertGroups {
    /// Groups; divides the number of experts.
    pub n: usize,
    /// Groups that are chosen from.
    pub n_used: usize,
}

/// Each token's experts, the best first, and their weights.
#[derive(Default, Debug)]
pub struct Routes {
    n_used: usize,
    /// `[n_tokens, n_used]`
    experts: Vec<u32>,
    /// `[n_tokens, n_used]`
    weights: Vec<f32>,
}

impl Routes {
    /// Chooses for each token by its `logits`, `[n_tokens, n_experts]`. `selection_bias`, `[n_experts]`, is added to
    /// the scores for the choice, and not to what weighs. Of equal scores the lower index is better; what is not a
    /// number is worst.
    ///
    /// # Panics
    /// When `logits` are no whole rows, the bias has another length, or the router's numbers do not fit each other.
    pub fn choose(
        &mut self,
        threads: &Threads,
        isa: Isa,
        router: &Router,
        logits: &[f32],
        selection_bias: Option<&[f32]>,
    ) {
        router.check();
        let (n_experts, n_used) = (router.n_experts, router.n_used);
        assert!(logits.len().is_multiple_of(n_experts), "{} logits in rows of {n_experts}", logits.len());
        assert!(selection_bias.is_none_or(|bias| bias.len() == n_experts), "a bias for each of {n_experts}");
        let n_tokens = logits.len() / n_experts;
        self.n_used = n_used;
        self.experts.resize(n_tokens * n_used, 0);
        self.weights.resize(n_tokens * n_used, 0.0);
        let (experts, weights) = (SharedMut::new(&mut self.experts), SharedMut::new(&mut self.weights));
        threads.for_each(n_tokens, GRAIN, |tokens| {
            let mut room = Room::new(router);
            for token in tokens {
                let logits = &logits[token * n_experts..][..n_experts];
                let chosen = token * n_used..(token + 1) * n_used;
                // SAFETY: each token is handed out once.
                let (experts, weights) = unsafe { (experts.range(chosen.clone()), weights.range(chosen)) };
                router.choose(isa, logits, selection_bias, &mut room, experts, weights);
            }
        });
    }

    /// Tokens.
    pub fn n_tokens(&self) -> usize {
        self.experts.len().checked_div(self.n_used).unwrap_or(0)
    }

    /// Experts of each token.
    pub fn n_used(&self) -> usize {
        self.n_used
    }

    /// The experts of all tokens, `[n_tokens, n_used]`, a token's best first.
    pub fn experts(&self) -> &[u32] {
        &self.experts
    }

    /// What they weigh, `[n_tokens, n_used]`.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }
}

/// A worker's memory for one token's choice.
struct Room {
    scores: Vec<f32>,
    keys: Vec<f32>,
    group_keys: Vec<f32>,
    best_groups: Vec<u32>,
}

impl Room {
    fn new(router: &Router) -> Room {
        let groups = router.groups.unwrap_or(ExpertGroups { n: 0, n_used: 0 });
        Room {
            scores: vec![0.0; router.n_experts],
            keys: vec![0.0; router.n_experts],
            group_keys: vec![0.0; groups.n],
            best_groups: vec![0; groups.n_used],
        }
    }
}

impl Router {
    fn check(&self) {
        let Router { n_experts, n_used, groups, .. } = *self;
        let n_open = groups.map_or(n_experts, |groups| {
            assert!(groups.n > 0 && n_experts.is_multiple_of(groups.n), "{n_experts} experts, {groups:?}");
            assert!(groups.n_used <= groups.n, "{groups:?}");
            n_experts / groups.n * groups.n_used
        });
        assert!((1..=n_open).contains(&n_used), "{n_used} experts of {n_open}");
    }

    fn choose(
        &self,
        isa: Isa,
        logits: &[f32],
        selection_bias: Option<&[f32]>,
        room: &mut Room,
        experts: &mut [u32],
        weights: &mut [f32],
    ) {
        let Room { scores, keys, .. } = &mut *room;
        match self.scoring {
            Scoring::Softmax => softmax(isa, logits, scores),
            // SAFETY: two slices of one length.
            Scoring::Sigmoid => unsafe { map(isa, Map::Sigmoid, logits, scores) },
            Scoring::SoftmaxOfChosen => scores.copy_from_slice(logits),
        }
        for (i, (key, score)) in keys.iter_mut().zip(&*scores).enumerate() {
            let biased = selection_bias.map_or(*score, |bias| score + bias[i]);
            *key = if biased.is_nan() { f32::NEG_INFINITY } else { biased };
        }
        if let Some(groups) = self.groups {
            close_groups(groups, room);
        }
        best(&room.keys, experts);
        for (weight, &expert) in weights.iter_mut().zip(&*experts) {
            *weight = room.scores[expert as usize];
        }
        if self.scoring == Scoring::SoftmaxOfChosen {
            let scores = &mut room.scores[..weights.len()];
            scores.copy_from_slice(weights);
            softmax(isa, scores, weights);
        }
        if self.is_normalised {
            let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
            // Not `max`, which would lose a NaN.
            let sum = if sum < MIN_SUM { MIN_SUM } else { sum };
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        if self.scale != 1.0 {
            weights.iter_mut().for_each(|weight| *weight *= self.scale);
        }
    }
}

/// Makes the experts of all groups but the best ones the worst.
fn close_groups(groups: ExpertGroups, room: &mut Room) {
    let Room { keys, group_keys, best_groups, .. } = room;
    let n_in_group = keys.len() / groups.n;
    for (keys, sum) in keys.chunks_exact(n_in_group).zip(&mut *group_keys) {
        let mut two = [0; 2];
        let two = &mut two[..n_in_group.min(2)];
        best(keys, two);
        let of_two = two.iter().fold(0.0, |sum, &i| sum + keys[i as usize]);
        *sum = if of_two.is_nan() { f32::NEG_INFINITY } else { of_two };
    }
    best(group_keys, best_groups);
    for (group, keys) in (0..).zip(keys.chunks_exact_mut(n_in_group)) {
        if !best_groups.contains(&group) {
            keys.fill(f32::NEG_INFINITY);
        }
    }
}

/// The indices of the largest of `keys`, which are numbers, the largest first and of equal ones the lower index first.
fn best(keys: &[f32], indices: &mut [u32]) {
    let mut n = 0;
    for (i, &key) in (0..).zip(keys) {
        if n == indices.len() && key <= keys[indices[n - 1] as usize] {
            continue;
        }
        n = indices.len().min(n + 1);
        let mut at = n - 1;
        while at > 0 && keys[indices[at - 1] as usize] < key {
            indices[at] = indices[at - 1];
            at -= 1;
        }
        indices[at] = i;
    }
}

/// The softmax of `x`: powers by lanes, then one chain of additions in the order of the values.
fn softmax(isa: Isa, x: &[f32], out: &mut [f32]) {
    let highest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // SAFETY: two slices of one length.
    unsafe { map(isa, Map::ExpAbove(highest), x, out) };
    let sum = out.iter().fold(0.0, |sum, power| sum + power);
    out.iter_mut().for_each(|power| *power /= sum);
}

/// What happens to each value.
#[derive(Clone, Copy)]
enum Map {
    /// `e^(x − highest)`.
    ExpAbove(f32),
    /// `1 / (1 + e^−x)`.
    Sigmoid,
}

simd_dispatch! {
    /// # Safety
    /// The slices have one length.
    unsafe fn map(function: Map, x: &[f32], out: &mut [f32]) = map_on
}

/// Lanes at a time; the rest goes through a padded copy, so it is computed alike.
///
/// # Safety
/// The instruction set of `S`. The slices have one length.
#[inline(always)]
unsafe fn map_on<S: Simd>(function: Map, x: &[f32], out: &mut [f32]) {
    let (groups, rest) = x.as_chunks::<LANES>();
    let (out_groups, out_rest) = out.as_chunks_mut::<LANES>();
    // SAFETY: every load and store is one group of lanes.
    unsafe {
        for (x, out) in groups.iter().zip(out_groups) {
            S::store(out.as_mut_ptr(), lanes::<S>(function, S::load(x.as_ptr())));
        }
        let mut padded = [0.0; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        S::store(padded.as_mut_ptr(), lanes::<S>(function, S::load(padded.as_ptr())));
        out_rest.copy_from_slice(&padded[..rest.len()]);
    }
}

/// Sixteen values.
///
/// # Safety
/// The instruction set of `S`.
#[inline(always)]
unsafe fn lanes<S: Simd>(function: Map, x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        match function {
            Map::ExpAbove(highest) => vmath::exp::<S>(S::sub(x, S::splat(highest))),
            Map::Sigmoid => vmath::sigmoid::<S>(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    const ALL: [Scoring; 3] = [Scoring::Softmax, Scoring::Sigmoid, Scoring::SoftmaxOfChosen];

    fn router(n_experts: usize, n_used: usize, scoring: Scoring) -> Router {
        Router { n_experts, n_used, scoring, groups: None, is_normalised: false, scale: 1.0 }
    }

    fn routes(isa: Isa, n_threads: usize, router: &Router, logits: &[f32], bias: Option<&[f32]>) -> Routes {
        let mut routes = Routes::default();
        routes.choose(&Threads::new(n_threads), isa, router, logits, bias);
        routes
    }

    /// By the definition in f64 and by sorting: experts with their weights, and what all were sorted by.
    fn expected(router: &Router, logits: &[f32], bias: Option<&[f32]>) -> (Vec<(u32, f64)>, Vec<f64>) {
        let softmax = |x: &[f64]| -> Vec<f64> {
            let highest = x.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = x.iter().map(|x| (x - highest).exp()).sum();
            x.iter().map(|x| (x - highest).exp() / sum).collect()
        };
        let logits: Vec<f64> = logits.iter().map(|x| f64::from(*x)).collect();
        let scores = match router.scoring {
            Scoring::Softmax => softmax(&logits),
            Scoring::Sigmoid => logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
            Scoring::SoftmaxOfChosen => logits.clone(),
        };
        let mut keys: Vec<f64> =
            (0..logits.len()).map(|i| scores[i] + bias.map_or(0.0, |bias| f64::from(bias[i]))).collect();
        let order = |keys: &[f64]| -> Vec<usize> {
            let mut order: Vec<usize> = (0..keys.len()).collect();
            order.sort_by(|a, b| keys[*b].total_cmp(&keys[*a]));
            order
        };
        if let Some(groups) = router.groups {
            let n = keys.len() / groups.n;
            let sums: Vec<f64> =
                keys.chunks(n).map(|of| order(of).iter().take(2).map(|i| of[*i]).sum()).collect();
            for group in order(&sums).into_iter().skip(groups.n_used) {
                keys[group * n..(group + 1) * n].fill(f64::NEG_INFINITY);
            }
        }
        let chosen: Vec<usize> = order(&keys).into_iter().take(router.n_used).collect();
        let mut weights: Vec<f64> = chosen.iter().map(|i| scores[*i]).collect();
        if router.scoring == Scoring::SoftmaxOfChosen {
            weights = softmax(&weights);
        }
        let sum =
            if router.is_normalised { weights.iter().sum::<f64>().max(f64::from(MIN_SUM)) } else { 1.0 };
        let weighed = |(i, weight): (usize, f64)| (i as u32, weight / sum * f64::from(router.scale));
        (chosen.into_iter().zip(weights).map(weighed).collect(), keys)
    }

    #[test]
    fn every_way_of_choosing_is_as_defined_on_every_instruction_set() {
        let mut rng = Rng::new(11);
        for isa in Isa::available() {
            for scoring in ALL {
                for (n_experts, n_used, groups) in [
                    (1, 1, None),
                    (8, 2, None),
                    (32, 4, None),
                    (128, 8, None),
                    (65, 6, None),
                    (64, 6, Some(ExpertGroups { n: 8, n_used: 3 })),
                    (6, 3, Some(ExpertGroups { n: 6, n_used: 4 })),
                    (16, 16, Some(ExpertGroups { n: 1, n_used: 1 })),
                ] {
                    for (is_normalised, scale) in [(false, 1.0), (true, 1.0), (true, 1.8), (false, 2.5)] {
                        let router =
                            Router { groups, is_normalised, scale, ..router(n_experts, n_used, scoring) };
                        let logits: Vec<f32> = (0..40 * n_experts).map(|_| 3.0 * rng.normal()).collect();
                        let bias: Vec<f32> = (0..n_experts).map(|_| 0.2 * rng.normal()).collect();
                        for bias in [None, Some(&bias[..])] {
                            let got = routes(isa, 2, &router, &logits, bias);
                            for (token, logits) in logits.chunks(n_experts).enumerate() {
                                let at = token * n_used..(token + 1) * n_used;
                                let (want, keys) = expected(&router, logits, bias);
                                for (i, (expert, weight)) in at.zip(want) {
                                    let (got_expert, got) = (got.experts()[i], f64::from(got.weights()[i]));
                                    // Nearly equal ones may change places.
                                    let gap = keys[got_expert as usize] - keys[expert as usize];
                                    assert!(
                                        gap.abs() <= 1e-6,
                                        "{} {router:?}: {got_expert} for {expert}",
                                        isa.name()
                                    );
                                    let error = (got - weight).abs();
                                    assert!(
                                        error <= 4e-6 * weight.abs() + 1e-9,
                                        "{router:?}: {got} for {weight}"
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn of_equal_scores_the_lower_index_is_better() {
        for isa in Isa::available() {
            for scoring in ALL {
                let logits = [0.5, 2.0, 0.5, 2.0, 0.5, 2.0, 0.5, -1.0];
                let got = routes(isa, 1, &router(8, 5, scoring), &logits, None);
                assert_eq!(got.experts(), [1, 3, 5, 0, 2]);
                let groups = Some(ExpertGroups { n: 4, n_used: 2 });
                let got = routes(isa, 1, &Router { groups, ..router(8, 4, scoring) }, &logits, None);
                assert_eq!(got.experts(), [1, 3, 0, 2]);
            }
        }
    }

    #[test]
    fn a_tokens_experts_and_weights_are_its_own() {
        let mut rng = Rng::new(12);
        let logits: Vec<f32> = (0..100 * 60).map(|_| rng.normal()).collect();
        let groups = Some(ExpertGroups { n: 6, n_used: 2 });
        for isa in Isa::available() {
            for router in ALL.map(|scoring| Router { groups, is_normalised: true, ..router(60, 6, scoring) })
            {
                let whole = routes(isa, 1, &router, &logits, None);
                let again = routes(isa, 3, &router, &logits, None);
                assert!(whole.experts() == again.experts() && whole.weights() == again.weights());
                for token in [0, 1, 15, 16, 63, 99] {
                    let alone = routes(isa, 1, &router, &logits[token * 60..][..60], None);
                    let at = token * 6..token * 6 + 6;
                    assert_eq!(alone.experts(), &whole.experts()[at.clone()]);
                    assert_eq!(alone.weights(), &whole.weights()[at]);
                }
            }
        }
    }

    #[test]
    fn logits_that_are_not_finite_choose_experts_that_exist() {
        let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let mut rng = Rng::new(13);
        for scoring in ALL {
            for groups in [None, Some(ExpertGroups { n: 3, n_used: 2 })] {
                let router = Router { groups, is_normalised: true, ..router(12, 6, scoring) };
                for _ in 0..200 {
                    let logits: Vec<f32> = (0..12)
                        .map(|_| match rng.bits() >> 32 & 7 {
                            i @ 0..3 => bad[i as usize],
                            3 => f32::MAX,
                            _ => rng.normal(),
                        })
                        .collect();
                    let got = routes(Isa::detect(), 1, &router, &logits, None);
                    let mut experts = got.experts().to_vec();
                    experts.sort_unstable();
                    experts.dedup();
                    assert!(experts.len() == 6 && experts.iter().all(|expert| *expert < 12), "{logits:?}");
                }
                let got = routes(Isa::detect(), 1, &router, &[f32::NAN; 12], None);
                assert!(got.weights().iter().all(|weight| weight.is_nan()));
            }
        }
    }

    #[test]
    #[should_panic(expected = "5 experts of 4")]
    fn more_experts_than_the_groups_leave_are_refused() {
        let groups = Some(ExpertGroups { n: 4, n_used: 2 });
        routes(Isa::SCALAR, 1, &Router { groups, ..router(8, 5, Scoring::Sigmoid) }, &[0.0; 8], None);
    }
}
