//! Every family's tiny model against llama.cpp, and the numerics rule on each.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod common;

use common::bits::{baselines, check_moved, check_pieces, check_saved};
use common::load_file;
use common::sequence::{Blocks, Random, Sequence};
use common::tiny::{self, Tiny};
use model::{FeedForwardPlan, Gguf, PoolSize, Precision, plan_of};
use scheduler::{KvDtype, ModelRunner, Step, StepOutput, Wanted};

// How far a logit may be off, as a share of the largest of its position.

/// Activations rounded to 16 bits, keys and values to half precision: the worst is off by 0.0009.
const WITHIN: f32 = 2e-3;

/// Activations rounded to 8 bits: the worst is off by 0.04.
const WITHIN_FAST: f32 = 0.1;

/// Of so many positions of a mixture of experts one may be further off in 8 bits: where two experts are nearly equal
/// another one is chosen, which no bound on rounding holds.
const ONE_OF: usize = 8;

fn runner(tiny: &Tiny, n_threads: usize, precision: Precision, kv_dtype: KvDtype) -> Box<dyn ModelRunner> {
    load_file(&tiny.model, |options| {
        options.n_threads = n_threads;
        options.precision = precision;
        options.kv_dtype = kv_dtype;
        options.block_tokens = 16;
        options.pool = PoolSize::Blocks(120);
    })
}

/// As [`runner`], with room for many states; none of a model that has none.
fn recurrent_runner(tiny: &Tiny, n_threads: usize) -> Option<Box<dyn ModelRunner>> {
    let runner = load_file(&tiny.model, |options| {
        options.n_threads = n_threads;
        options.block_tokens = 16;
        options.pool = PoolSize::Blocks(1500);
    });
    (!runner.layout().state.is_empty()).then_some(runner)
}

/// Whether a model chooses among experts.
fn is_mixture(tiny: &Tiny) -> bool {
    let plan = plan_of(&Gguf::open(&tiny.model).unwrap()).unwrap();
    plan.layers.iter().any(|layer| matches!(layer.feed_forward, FeedForwardPlan::Experts(_)))
}

/// How far the worst logit of each position is off, the farthest first; what is no number is farther than all.
fn distances(tiny: &Tiny, precision: Precision) -> Vec<f32> {
    let mut runner = runner(tiny, 2, precision, KvDtype::F16);
    let layout = runner.layout().clone();
    let mut sequence = Sequence::new(1, &tiny.tokens, &layout);
    let mut blocks = Blocks::in_order(runner.n_blocks());
    let row = sequence.next_row(tiny.tokens.len(), &layout, &mut blocks, Wanted::AllLogits);
    let mut out = StepOutput::default();
    runner.run(&Step { copies: vec![], rows: vec![row] }, &mut out).unwrap();
    assert_eq!((out.logits.n_rows(), out.logits.n_vocab), (64, tiny.n_vocab));
    let distances = (0..out.logits.n_rows()).map(|i| tiny.distance(i, out.logits.row(i)));
    let mut distances: Vec<f32> = distances.map(|x| if x.is_nan() { f32::INFINITY } else { x }).collect();
    distances.sort_by(|a, b| b.total_cmp(a));
    distances
}

#[test]
fn every_family_has_llama_cpps_logits_at_64_positions() {
    for tiny in tiny::all() {
        for (precision, bound) in [(Precision::Full, WITHIN), (Precision::Fast, WITHIN_FAST)] {
            let distances = distances(&tiny, precision);
            let n_free =
                if precision == Precision::Fast && is_mixture(&tiny) { distances.len() / ONE_OF } else { 0 };
            let (name, precision, worst) = (&tiny.name, precision.name(), distances[n_free]);
            println!("{name}, {precision}: the worst is off by {:.1e}, another by {worst:.1e}", distances[0]);
            assert!(worst <= bound, "{name}, {precision}: off by {worst}");
            assert!(distances[0].is_finite(), "{name}, {precision}");
        }
    }
}

/// Three sequences of a family's tokens: as they are, backwards, and from the middle on.
fn texts(tiny: &Tiny) -> Vec<Vec<u32>> {
    let whole = tiny.tokens.clone();
    let backwards = whole.iter().rev().copied().collect();
    let middle = whole[30..].to_vec();
    vec![whole, backwards, middle]
}

#[test]
fn every_family_in_pieces_beside_others_and_in_any_blocks_has_the_bits_of_a_sequence_alone() {
    for tiny in tiny::all() {
        let mut first = runner(&tiny, 2, Precision::Fast, KvDtype::F16);
        let baselines = baselines(&mut *first, &texts(&tiny));
        let mut random = Random(7);
        for mut runner in [first, runner(&tiny, 1, Precision::Fast, KvDtype::F16)] {
            check_pieces(&mut *runner, &baselines, &[0, 1, 2, 3, 7, 16, 17, 30], &mut random);
        }
    }
}

#[test]
fn every_familys_blocks_that_were_exported_and_imported_give_the_same_bits_onwards() {
    for tiny in tiny::all() {
        for kv_dtype in [KvDtype::F16, KvDtype::Q8, KvDtype::Q4] {
            let [mut first, mut second] =
                [2, 1].map(|n_threads| runner(&tiny, n_threads, Precision::Fast, kv_dtype));
            let baseline = baselines(&mut *first, &texts(&tiny)[..1]).remove(0);
            check_moved(&mut *first, &mut *second, baseline, 25);
        }
    }
}

#[test]
fn a_state_that_was_saved_at_any_token_goes_on_with_the_bits_of_its_sequence() {
    let mut n_recurrent = 0;
    for tiny in tiny::all() {
        let Some(mut first) = recurrent_runner(&tiny, 2) else { continue };
        n_recurrent += 1;
        let baselines = baselines(&mut *first, &texts(&tiny)[..2]);
        let Ok(baselines) = baselines.try_into() else { panic!("two texts") };
        let mut random = Random(11);
        for mut runner in [first, recurrent_runner(&tiny, 1).unwrap(), recurrent_runner(&tiny, 3).unwrap()] {
            check_saved(&mut *runner, &baselines, &[0, 1, 2, 5, 16, 23], &mut random);
            check_saved(&mut *runner, &baselines, &[64], &mut random);
        }
    }
    assert!(n_recurrent >= 11, "{n_recurrent} families keep a state");
}
