//! Every family of encoders' tiny model against llama.cpp, and the numerics rule on each.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod common;

use std::ops::ControlFlow;

use common::encoders::{self, POOLINGS, cosine, distance, pooled_as};
use common::sequence::Random;
use common::{embedder, try_load, vectors};
use kernels::isa::Isa;
use model::{EmbedderOptions, Gguf, LoadError, Precision, gpu_refusal, load_embedder, outline};
use scheduler::{BatchIs, Vectors};

// How far a value may be off, as a share of the largest of its vector.

/// Activations rounded to 16 bits, keys and values to half precision, and the reference's table of GELU to the latter: the
/// worst is off by 0.0005.
const WITHIN: f32 = 2e-3;

/// Activations rounded to 8 bits: the worst is off by 0.02.
const WITHIN_FAST: f32 = 0.06;

#[test]
fn every_encoder_has_llama_cpps_vector_of_a_text_in_each_way_of_pooling() {
    for tiny in encoders::all() {
        for ((pooling, number), (of, want)) in POOLINGS.into_iter().zip(&tiny.of_text) {
            assert_eq!(pooling, *of);
            let file = pooled_as(&tiny.model, number);
            for (precision, bound) in [(Precision::Full, WITHIN), (Precision::Fast, WITHIN_FAST)] {
                let mut embedder = embedder(file.path(), 2, precision);
                assert_eq!((embedder.spec().pooling, embedder.spec().width), (pooling, tiny.width));
                let got = vectors(&mut *embedder, &[&tiny.tokens], usize::MAX);
                let off = distance(&got[0], want);
                let (name, precision) = (&tiny.name, precision.name());
                let cosine = cosine(&got[0], want);
                println!("{name}, {}, {precision}: off by {off:.1e}, cosine {cosine:.6}", pooling.name());
                assert!(off <= bound, "{name}, {}, {precision}: off by {off}", pooling.name());
            }
        }
    }
}

/// Texts of a model's tokens: of one, of a chunk and of one more, and some between.
fn texts(tokens: &[u32]) -> Vec<Vec<u32>> {
    let backwards: Vec<u32> = tokens.iter().rev().copied().collect();
    let lengths = [150, 1, 17, 128, 129, 40, 2, 16];
    lengths.iter().enumerate().map(|(i, n)| [tokens, &backwards[..]][i % 2][..*n].to_vec()).collect()
}

#[test]
fn a_texts_vector_has_the_same_bits_alone_and_in_any_batch_by_any_threads_and_in_any_parts() {
    let mut random = Random(5);
    for tiny in encoders::all() {
        let texts = texts(&tiny.tokens);
        let mut first = embedder(&tiny.model, 1, Precision::Fast);
        let n_parts = first.spec().n_parts;
        let mut alone = |text: &Vec<u32>| vectors(&mut *first, &[text], n_parts).remove(0);
        let want: Vec<Vec<f32>> = texts.iter().map(&mut alone).collect();
        for n_threads in [1, 2, 3] {
            let mut embedder = embedder(&tiny.model, n_threads, Precision::Fast);
            for _ in 0..6 {
                // Some may be there twice.
                let batch: Vec<usize> = (0..1 + random.below(9)).map(|_| random.below(texts.len())).collect();
                let of_batch: Vec<&[u32]> = batch.iter().map(|&i| &texts[i][..]).collect();
                let got = vectors(&mut *embedder, &of_batch, 1 + random.below(n_parts));
                for (&i, got) in batch.iter().zip(&got) {
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                    assert_eq!(bits(got), bits(&want[i]), "{}, text {i} in {batch:?}", tiny.name);
                }
            }
        }
    }
}

#[test]
fn a_batch_is_done_part_by_part_and_another_may_take_its_place() {
    let tiny = &encoders::all()[0];
    let mut embedder = embedder(&tiny.model, 2, Precision::Fast);
    let n_parts = embedder.spec().n_parts;
    assert!(n_parts > 2);
    let want = vectors(&mut *embedder, &[&tiny.tokens[..9]], 1);
    let mut out = Vectors::default();
    embedder.begin(&[&tiny.tokens, &tiny.tokens[3..]]).unwrap();
    assert_eq!(embedder.advance(n_parts - 1, &mut out), Ok(BatchIs::UnderWay));
    embedder.begin(&[&tiny.tokens[..9]]).unwrap();
    // Nothing done is done once.
    assert_eq!(embedder.advance(0, &mut out), Ok(BatchIs::UnderWay));
    for _ in 1..n_parts {
        assert_eq!(embedder.advance(1, &mut out), Ok(BatchIs::UnderWay));
    }
    assert_eq!(out, Vectors::default());
    assert_eq!(embedder.advance(1, &mut out), Ok(BatchIs::Done));
    assert_eq!(out.values, want[0]);
    let error = embedder.advance(1, &mut out).unwrap_err().to_string();
    assert!(error.contains("no batch of texts is under way"), "{error}");
    // What is no batch does not leave one.
    embedder.begin(&[&tiny.tokens]).unwrap();
    assert!(embedder.begin(&[&[]]).unwrap_err().to_string().contains("text 0 has no tokens"));
}

#[test]
fn an_encoder_is_outlined_as_one_runs_on_the_cpu_alone_and_continues_no_text() {
    for tiny in encoders::all() {
        let gguf = Gguf::open(&tiny.model).unwrap();
        let outline = outline(&gguf).unwrap();
        let encoder = outline.encoder.unwrap();
        let loaded = embedder(&tiny.model, 1, Precision::Fast);
        assert_eq!(&encoder.spec, loaded.spec(), "{}", tiny.name);
        assert_eq!((encoder.spec.width, encoder.spec.max_tokens, encoder.spec.n_parts), (64, 192, 3));
        assert!(outline.unread.is_empty(), "{:?}", outline.unread);
        assert_eq!(gpu_refusal(&outline.plan, &gguf).unwrap(), "vectors of whole texts: on the CPU only");
        let refused = try_load(&tiny.model, |_| ()).err().unwrap();
        let LoadError::Unsupported { cause, .. } = refused else { panic!("{refused}") };
        assert!(cause.contains("gives vectors and continues no text"), "{cause}");
    }
    let options = EmbedderOptions { n_threads: 1, isa: Isa::detect(), precision: Precision::Fast };
    let llama = Gguf::open(&common::tiny::folder().join("llama.gguf")).unwrap();
    assert!(outline(&llama).unwrap().encoder.is_none());
    let refused = load_embedder(&llama, &options, &mut |_| ControlFlow::Continue(())).err().unwrap();
    assert!(refused.to_string().ends_with("a llama model continues texts and gives no vectors"), "{refused}");
}

#[test]
fn what_makes_no_vector_of_a_text_is_refused_by_name() {
    for tiny in encoders::all() {
        for (number, want) in [
            (0, "pooling_type` 0 (none): a vector for each token, and none for the text"),
            (4, "pooling_type` 4 (rank): it scores pairs of texts, and gives no vectors"),
            (9, "pooling_type` 9, which is not known"),
        ] {
            let file = pooled_as(&tiny.model, number);
            let error = outline(&Gguf::open(file.path()).unwrap()).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
