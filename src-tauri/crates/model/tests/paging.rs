//! The numerics rule on real models: a token's logits depend on its sequence and position only, bit for bit.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::bits::{self, baselines, check_pieces};
use common::load_with;
use common::sequence::Random;
use common::vectors::{GEMMA3, SMOLLM2, references};
use model::PoolSize;
use scheduler::{KvDtype, ModelRunner};

/// The long texts of a model's references, cut to `lengths`.
fn texts(name: &str, lengths: &[usize]) -> Vec<Vec<u32>> {
    let references = references(&format!("{name}.vec"));
    let long = ["long_code", "long_table", "long_story"];
    let text = |i: usize| references.iter().find(|text| text.name == long[i % 3]).unwrap();
    lengths.iter().enumerate().map(|(i, &n)| text(i).tokens[..n].to_vec()).collect()
}

fn runner(model: &str, n_threads: usize, kv_dtype: KvDtype) -> Box<dyn ModelRunner> {
    load_with(model, |options| {
        options.n_threads = n_threads;
        options.kv_dtype = kv_dtype;
        options.pool = PoolSize::Blocks(700);
    })
}

fn check(model: &str, name: &str, lengths: &[usize]) {
    let _alone = common::alone();
    let mut first = runner(model, 2, KvDtype::F16);
    let baselines = baselines(&mut *first, &texts(name, lengths));
    let mut random = Random(7);
    let sizes = [0, 1, 1, 2, 3, 16, 31, 33, 64, 97, 128, 130, 170];
    for mut runner in [first, runner(model, 1, KvDtype::F16)] {
        check_pieces(&mut *runner, &baselines, &sizes, &mut random);
    }
}

#[test]
fn smollm2_paged_batched_and_chunked_has_the_bits_of_a_sequence_alone() {
    check(SMOLLM2, "smollm2", &[420, 333, 150]);
}

#[test]
fn gemma3_paged_batched_and_chunked_has_the_bits_of_a_sequence_alone() {
    check(GEMMA3, "gemma3", &[780, 560, 100]);
}

/// A sequence goes on in another pool, on another number of threads, in other blocks.
fn check_moved(model: &str, name: &str, kv_dtype: KvDtype, n_tokens: usize) {
    let _alone = common::alone();
    let (mut first, mut second) = (runner(model, 2, kv_dtype), runner(model, 1, kv_dtype));
    let baseline = baselines(&mut *first, &texts(name, &[n_tokens])).remove(0);
    bits::check_moved(&mut *first, &mut *second, baseline, 30);
}

#[test]
fn blocks_that_were_exported_and_imported_give_the_same_bits_onwards() {
    for kv_dtype in [KvDtype::F16, KvDtype::Q8, KvDtype::Q4] {
        check_moved(SMOLLM2, "smollm2", kv_dtype, 140);
    }
    check_moved(GEMMA3, "gemma3", KvDtype::F16, 650);
}
