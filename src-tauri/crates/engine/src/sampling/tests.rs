//! What a request's sampling settings promise.

use std::collections::BTreeMap;

use super::*;

const GREEDY: Sampling = Sampling {
    temperature: 0.0,
    top_p: 1.0,
    top_k: 0,
    min_p: 0.0,
    frequency_penalty: 0.0,
    presence_penalty: 0.0,
    repetition_penalty: 1.0,
    penalty_window: 64,
    logit_bias: Vec::new(),
    seed: None,
};

/// A row of `n` values that looks like logits: a few high ones, many low ones, all different enough.
fn logits(n: usize, salt: u64) -> Vec<f32> {
    (0..n as u64).map(|i| (random::uniform(salt, i).powi(6) * 24.0 - 8.0) as f32).collect()
}

fn one(sampling: &Sampling, logits: &[f32], seed: u64) -> TokenId {
    Sampler::new(sampling.clone(), seed).sample(logits, None, &mut Scratch::default()).unwrap()
}

/// How often each token is drawn in `n` draws.
fn histogram(sampling: &Sampling, logits: &[f32], n: u64) -> BTreeMap<TokenId, f64> {
    let mut counts = BTreeMap::new();
    let mut scratch = Scratch::default();
    for seed in 0..n {
        let token = Sampler::new(sampling.clone(), seed).sample(logits, None, &mut scratch).unwrap();
        *counts.entry(token).or_insert(0.0) += 1.0 / n as f64;
    }
    counts
}

/// The distribution after all filters, computed the slow way: a full sort in double precision.
fn reference(sampling: &Sampling, logits: &[f32]) -> BTreeMap<TokenId, f64> {
    let mut all: Vec<(f64, TokenId)> = logits
        .iter()
        .enumerate()
        .map(|(t, &l)| (f64::from(l) / f64::from(sampling.temperature), t as u32))
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    if sampling.top_k > 0 {
        all.truncate(sampling.top_k);
    }
    let max = all[0].0;
    let total: f64 = all.iter().map(|(l, _)| (l - max).exp()).sum();
    let mut sum = 0.0;
    let mut kept = Vec::new();
    for (l, t) in all {
        let p = (l - max).exp();
        kept.push((p, t));
        sum += p;
        if sum >= f64::from(sampling.top_p) * total {
            break;
        }
    }
    kept.retain(|(p, _)| *p >= f64::from(sampling.min_p));
    let total: f64 = kept.iter().map(|(p, _)| p).sum();
    kept.into_iter().map(|(p, t)| (t, p / total)).collect()
}

#[test]
fn greedy_takes_the_greatest_and_of_equals_the_lowest_id() {
    for n in [1, 15, 64, 65, 1000, 49_152] {
        let mut row = vec![-3.0; n];
        row[n - 1] = 5.0;
        row[n / 2] = 5.0;
        row[n / 3] = 5.0;
        assert_eq!(one(&GREEDY, &row, 0), (n / 3) as u32, "{n}");
    }
}

#[test]
fn every_filter_draws_from_the_distribution_that_a_full_sort_gives() {
    let base = Sampling::default();
    let cases = [
        base.clone(),
        Sampling { temperature: 0.5, ..base.clone() },
        Sampling { top_k: 5, ..base.clone() },
        Sampling { top_k: 90, temperature: 2.0, ..base.clone() },
        Sampling { top_p: 0.7, ..base.clone() },
        Sampling { top_p: 0.97, temperature: 2.0, ..base.clone() },
        Sampling { min_p: 0.2, ..base.clone() },
        Sampling { top_k: 30, top_p: 0.9, min_p: 0.05, temperature: 1.3, ..base },
    ];
    for (i, sampling) in cases.iter().enumerate() {
        let row = logits(300, 3 + i as u64);
        let truth = reference(sampling, &row);
        let drawn = histogram(sampling, &row, 6_000);
        let mut distance = 0.0;
        for token in 0..300 {
            let (p, q) =
                (truth.get(&token).copied().unwrap_or(0.0), drawn.get(&token).copied().unwrap_or(0.0));
            assert!(p > 0.0 || q == 0.0, "{sampling:?} drew {token}, which the filters drop");
            distance += (p - q).abs() / 2.0;
        }
        // What 6,000 draws miss by chance grows with the number of tokens.
        let chance = 0.5 * (truth.len() as f64 / 6_000.0).sqrt();
        assert!(distance < 1.3 * chance + 0.005, "{sampling:?}: {distance} of {chance}");
    }
}

#[test]
fn a_nucleus_is_drawn_from_by_its_own_weights_however_small_it_is() {
    let n = 1_500;
    let row = logits(8_000, 5);
    for (top_p, min_p) in [(0.01, 0.0), (0.1, 0.0), (0.5, 0.0), (0.5, 0.3), (0.9, 0.3)] {
        let sampling = Sampling { top_p, min_p, temperature: 4.0, ..Sampling::default() };
        let truth = reference(&sampling, &row);
        let drawn = histogram(&sampling, &row, n);
        let stray = drawn.keys().find(|token| !truth.contains_key(token));
        assert_eq!(stray, None, "top_p {top_p}, min_p {min_p}");
        // By halves of equal weight, since the nucleus may have more tokens than there are draws.
        let mut by_weight: Vec<_> = truth.iter().map(|(token, p)| (*p, *token)).collect();
        by_weight.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut expected = 0.0;
        let mut got = 0.0;
        for (p, token) in by_weight {
            if expected >= 0.5 {
                break;
            }
            expected += p;
            got += drawn.get(&token).copied().unwrap_or(0.0);
        }
        let by_chance = 3.5 * (expected * (1.0 - expected) / n as f64).sqrt() + 1e-9;
        assert!((expected - got).abs() <= by_chance, "top_p {top_p}: {got} of {expected}");
    }
}

#[test]
fn a_temperature_of_almost_nothing_is_greedy() {
    let row = logits(5000, 9);
    let best = one(&GREEDY, &row, 0);
    for temperature in [1e-3, 1e-30, f32::MIN_POSITIVE, 1e-45] {
        for top_p in [1.0, 0.9] {
            assert_eq!(one(&Sampling { temperature, top_p, ..Sampling::default() }, &row, 3), best);
        }
    }
}

#[test]
fn a_flat_distribution_over_a_big_vocabulary_is_drawn_whole() {
    let row = vec![1.0; 65_536];
    let sampling = Sampling { top_p: 0.5, ..Sampling::default() };
    let drawn: Vec<u32> = (0..20).map(|seed| one(&sampling, &row, seed)).collect();
    // Of equals the lower ids are the likelier ones, so half of the mass is the lower half.
    assert!(drawn.iter().all(|&t| t < 32_769), "{drawn:?}");
    assert!(drawn.iter().any(|&t| t > 20_000), "{drawn:?}");
    let whole: Vec<u32> = (0..20).map(|seed| one(&Sampling::default(), &row, seed)).collect();
    assert!(whole.iter().any(|&t| t > 50_000), "{whole:?}");
}

#[test]
fn tiny_top_p_and_top_k_of_one_are_greedy() {
    let row = logits(5000, 9);
    let best = one(&GREEDY, &row, 0);
    for seed in 0..50 {
        assert_eq!(one(&Sampling { top_k: 1, ..Sampling::default() }, &row, seed), best);
        assert_eq!(one(&Sampling { top_p: 1e-6, ..Sampling::default() }, &row, seed), best);
        assert_eq!(one(&Sampling { min_p: 1.0, ..Sampling::default() }, &row, seed), best);
    }
}

#[test]
fn a_seed_fixes_the_answer_and_another_seed_changes_it() {
    let row = logits(2000, 1);
    let answer = |seed| {
        let sampling = Sampling { seed: Some(seed), temperature: 2.0, ..Sampling::default() };
        // Another scratch and another fresh seed, as in another batch.
        let mut sampler = Sampler::new(sampling, seed * 31);
        (0..16).map(|_| sampler.sample(&row, None, &mut Scratch::default()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(answer(5), answer(5));
    assert_ne!(answer(5), answer(6));
}

#[test]
fn a_row_with_a_value_that_is_not_finite_is_an_error_wherever_it_is() {
    for n in [1, 64, 100, 300] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, n / 2, n - 1] {
                let mut row = logits(n, 2);
                row[at] = bad;
                for sampling in [GREEDY, Sampling::default()] {
                    let sampled = Sampler::new(sampling, 0).sample(&row, None, &mut Scratch::default());
                    assert_eq!(sampled, Err(NotFinite.into()), "{bad} at {at} of {n}");
                }
                assert_eq!(logprob(&row, 0, 1, &mut Scratch::default()), Err(NotFinite));
            }
        }
    }
}

#[test]
fn a_bias_forces_and_bans_tokens_and_unknown_ones_are_passed_over() {
    let row = logits(300, 4);
    let best = one(&GREEDY, &row, 0);
    let biased = |bias| one(&Sampling { logit_bias: bias, ..GREEDY }, &row, 0);
    assert_eq!(biased(vec![(17, 100.0)]), 17);
    assert_ne!(biased(vec![(best, -100.0)]), best);
    assert_eq!(biased(vec![(9_999, 100.0)]), best);
    assert_eq!(biased(vec![(17, f32::MAX), (17, f32::MAX)]), 17);
}

/// What is said greedily `n` times over a row in which 3, 4 and 5 stand out, a little less each.
fn said(sampling: Sampling, n: usize, mask_at: impl Fn(usize) -> Option<TokenMask>) -> Vec<TokenId> {
    let mut row = vec![0.0; 100];
    row[3] = 3.0;
    row[4] = 2.5;
    row[5] = 2.0;
    let mut sampler = Sampler::new(sampling, 0);
    let mut scratch = Scratch::default();
    (0..n).map(|at| sampler.sample(&row, mask_at(at).as_ref(), &mut scratch).unwrap()).collect()
}

#[test]
fn penalties_push_down_what_was_generated() {
    let answer = |sampling| said(sampling, 4, |_| None);
    assert_eq!(answer(GREEDY), [3, 3, 3, 3]);
    // Once each, however often: 3.0 - 0.7 < 2.5, then 2.5 - 0.7 < 2.3.
    assert_eq!(answer(Sampling { presence_penalty: 0.7, ..GREEDY }), [3, 4, 3, 3]);
    // 3.0, 2.5 against 2.3, then 2.3, then 2.0 against 1.6 and 1.8.
    assert_eq!(answer(Sampling { frequency_penalty: 0.7, ..GREEDY }), [3, 4, 3, 5]);
    assert_eq!(answer(Sampling { repetition_penalty: 2.0, ..GREEDY }), [3, 4, 5, 3]);
    assert_eq!(answer(Sampling { repetition_penalty: 0.5, presence_penalty: 2.9, ..GREEDY }), [3, 3, 3, 3]);
    assert_eq!(answer(Sampling { presence_penalty: -1.0, ..GREEDY }), [3, 3, 3, 3]);
}

#[test]
fn a_penalty_forgets_what_has_left_its_window() {
    let banning = Sampling { presence_penalty: 2.0, ..GREEDY };
    let answer = |penalty_window| said(Sampling { penalty_window, ..banning.clone() }, 6, |_| None);
    assert_eq!(answer(0), [3, 3, 3, 3, 3, 3]);
    assert_eq!(answer(1), [3, 4, 3, 4, 3, 4]);
    assert_eq!(answer(2), [3, 4, 5, 3, 4, 5]);
    assert_eq!(Sampling::default().penalty_window, 64);
}

#[test]
fn inside_a_format_no_penalty_counts_and_what_was_said_there_counts_for_none() {
    let format = text::OutputFormat::JsonSchema {
        schema: serde_json::json!({"type": "integer"}),
        strictness: text::Strictness::Strict,
    };
    let mut constraint = crate::testing::tiny_text().constraint(&format).unwrap();
    let digits = constraint.mask().unwrap();
    // The likeliest digit, however often it has been said.
    let mut row = vec![0.0; 300];
    row[b'7' as usize] = 3.0;
    row[b'8' as usize] = 2.9;
    row[b'a' as usize] = 5.0;
    for sampling in [
        Sampling { presence_penalty: 2.0, ..GREEDY },
        Sampling { frequency_penalty: 2.0, ..GREEDY },
        Sampling { repetition_penalty: 10.0, ..GREEDY },
        Sampling { repetition_penalty: 1.15, presence_penalty: 0.5, frequency_penalty: 0.5, ..GREEDY },
        Sampling { repetition_penalty: 1.15, penalty_window: usize::MAX, ..GREEDY },
    ] {
        let mut sampler = Sampler::new(sampling, 0);
        let mut say = |mask| sampler.sample(&row, mask, &mut Scratch::default()).unwrap();
        assert_eq!(say(None), TokenId::from(b'a'));
        let held: Vec<TokenId> = (0..5).map(|_| say(Some(&digits))).collect();
        assert_eq!(held, [TokenId::from(b'7'); 5]);
        // Only the free token has been counted: the digits are as likely as before.
        row[b'a' as usize] = 0.0;
        let mut say = |mask| sampler.sample(&row, mask, &mut Scratch::default()).unwrap();
        assert_eq!(say(None), TokenId::from(b'7'));
        row[b'a' as usize] = 5.0;
    }
}

#[test]
fn log_probabilities_are_those_of_the_unmodified_distribution_best_first() {
    let row = [1.0f32, 3.0, 2.0, 3.0];
    let sum: f32 = row.iter().map(|l| l.exp()).sum();
    let found = logprob(&row, 2, 3, &mut Scratch::default()).unwrap();
    assert!((found.logprob - (2.0 - sum.ln())).abs() < 1e-5);
    assert_eq!(found.top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3, 2]);
    assert!((found.top[0].1 - (3.0 - sum.ln())).abs() < 1e-5);
    assert_eq!(logprob(&row, 0, 99, &mut Scratch::default()).unwrap().top.len(), 4);
    assert!(logprob(&row, 0, 0, &mut Scratch::default()).unwrap().top.is_empty());
}
