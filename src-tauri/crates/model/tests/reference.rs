//! The decoder on real models against llama.cpp, over texts of up to 2,600 tokens.
//!
//! The references are llama.cpp's logits on the model's weights expanded to floats: the model itself, without
//! anybody's rounding of activations. On the quantised file llama.cpp rounds them to 8 bits as we do, K-quants'
//! in groups of 256; `….vec` holds what it gets there, and how far that is from the model itself is the scale on
//! which our own error is to be read.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod common;

use common::score::{Outcome, Score};
use common::sequence::{Blocks, Random, Sequence};
use common::vectors::{GEMMA3, Reference, SMOLLM2, references};
use model::{PoolSize, Precision};
use scheduler::{Logits, ModelRunner, Step, StepOutput, Wanted};

/// Where the fast path takes the same next token at 99 of 100 positions; nine positions in ten are as clear.
const CLEAR_FAST: f32 = 0.12;

/// Where the fast path always takes the same next token, and what 99 of 100 of its log-probabilities stay within.
const SAFE_FAST: f32 = 0.5;

/// Where the full path always takes the same next token; 19 positions in 20 are as clear.
const SAFE_FULL: f32 = 0.05;

/// Runs each text through `runner` and adds up how it compares with the text's references.
fn score<const N: usize>(
    runner: &mut dyn ModelRunner,
    texts: &[[&Reference; N]],
    gaps: [f32; N],
) -> [Score; N] {
    let mut totals = [const { Score::NONE }; N];
    let layout = runner.layout().clone();
    let mut out = StepOutput::default();
    for text in texts {
        let mut blocks = Blocks::shuffled(runner.n_blocks(), &mut Random(1));
        let mut sequence = Sequence::new(1, &text[0].tokens, &layout);
        while sequence.n_left() > 0 {
            let (start, n) = (sequence.n_done, sequence.n_left().min(100));
            let row = sequence.next_row(n, &layout, &mut blocks, Wanted::AllLogits);
            runner.run(&Step { copies: vec![], rows: vec![row] }, &mut out).unwrap();
            sequence.close_windows(&layout, &mut blocks);
            for (i, outcome) in outcomes(&out.logits).iter().enumerate() {
                for ((score, reference), gap) in totals.iter_mut().zip(text).zip(gaps) {
                    score.add(reference, start + i, outcome, gap);
                }
            }
        }
    }
    totals
}

/// What is compared of each row, on two threads.
fn outcomes(logits: &Logits) -> Vec<Outcome<'_>> {
    let of = |rows: std::ops::Range<usize>| -> Vec<Outcome<'_>> {
        rows.map(|i| Outcome::of(logits.row(i))).collect()
    };
    let (n, half) = (logits.n_rows(), logits.n_rows() / 2);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| of(0..half));
        let second = of(half..n);
        let mut all = first.join().unwrap();
        all.extend(second);
        all
    })
}

/// The model as users run it with this precision, over `texts`; prints one line for each kind of reference.
fn run<const N: usize>(
    model: &str,
    precision: Precision,
    texts: &[[&Reference; N]],
    gaps: [f32; N],
) -> [Score; N] {
    assert!(texts.len() >= 8);
    let mut runner = common::load_with(model, |options| {
        options.precision = precision;
        options.pool = PoolSize::Blocks(500);
    });
    let totals = score(&mut *runner, texts, gaps);
    for (total, gap) in totals.iter().zip(gaps) {
        println!("{model}, {}: {}", precision.name(), total.summary(gap));
    }
    totals
}

/// Activations rounded to 8 bits: perplexity within 0.2 %, the same next token at 99 of 100 clear positions and
/// wherever the gap is above [`SAFE_FAST`].
fn check_fast(model: &str, name: &str) {
    let _alone = common::alone();
    let exact = references(&format!("{name}.f32.vec"));
    let same_file = references(&format!("{name}.vec"));
    let texts: Vec<_> = exact.iter().zip(&same_file).map(|(a, b)| [a, a, b]).collect();
    let gaps = [CLEAR_FAST, SAFE_FAST, SAFE_FAST];
    let [clear, safe, same_file] = run(model, Precision::Fast, &texts, gaps);
    assert!(clear.perplexity_error().abs() < 0.002, "perplexity {:?}", clear.perplexities());
    assert!(10 * clear.n_clear >= 9 * clear.n_positions, "{} of {}", clear.n_clear, clear.n_positions);
    assert!(100 * clear.n_wrong <= clear.n_clear, "{} of {}", clear.n_wrong, clear.n_clear);
    assert_eq!(safe.n_wrong, 0, "a gap of {}", safe.widest_wrong);
    assert!(safe.percentile(99.0) < SAFE_FAST, "{}", safe.summary(SAFE_FAST));
    // Here llama.cpp's own rounding comes on top.
    assert!(
        1000 * same_file.n_wrong <= 2 * same_file.n_clear,
        "{} of {}",
        same_file.n_wrong,
        same_file.n_clear
    );
}

/// Activations rounded to 16 bits, keys and values to f16: the same next token wherever the gap is above
/// [`SAFE_FULL`], which is at nine positions in ten at least.
fn check_full(model: &str, name: &str) {
    let _alone = common::alone();
    let exact = references(&format!("{name}.f32.vec"));
    let texts: Vec<_> = exact.iter().map(|text| [text]).collect();
    let [total] = run(model, Precision::Full, &texts, [SAFE_FULL]);
    assert!(10 * total.n_clear >= 9 * total.n_positions, "{} of {}", total.n_clear, total.n_positions);
    assert_eq!(total.n_wrong, 0, "a gap of {}", total.widest_wrong);
    assert!(total.perplexity_error().abs() < 0.0005, "perplexity {:?}", total.perplexities());
    assert!(total.rms() < 0.005, "log-probabilities are off by {}", total.rms());
}

#[test]
fn smollm2_agrees_with_llama_cpp() {
    check_fast(SMOLLM2, "smollm2");
}

#[test]
fn gemma3_agrees_with_llama_cpp() {
    check_fast(GEMMA3, "gemma3");
}

#[test]
fn smollm2_in_full_precision_agrees_with_llama_cpp_at_every_clear_position() {
    check_full(SMOLLM2, "smollm2");
}

#[test]
fn gemma3_in_full_precision_agrees_with_llama_cpp_past_several_windows() {
    check_full(GEMMA3, "gemma3");
}
