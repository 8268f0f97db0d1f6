//! What of an encoder only its own crate can see.

use std::ops::ControlFlow;

use kernels::isa::Isa;
use scheduler::{BatchIs, Embedder, Vectors};

use super::super::load::encoder;
use crate::file::gguf::Gguf;
use crate::options::{EmbedderOptions, Precision};
use crate::run::encoder::Encoder;
use crate::run::outline::outline;

#[path = "../../../tests/common/encoders.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests in `tests/` have it too")]
mod encoders;

fn load(tiny: &encoders::TinyEncoder, precision: Precision) -> Encoder<super::Cpu> {
    let options = EmbedderOptions { n_threads: 2, isa: Isa::detect(), precision };
    encoder(&Gguf::open(&tiny.model).unwrap(), &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn every_token_has_llama_cpps_vector_before_they_are_pooled() {
    for tiny in encoders::all() {
        let rows = load(&tiny, Precision::Full).of_tokens(&tiny.tokens);
        let worst = rows
            .chunks(tiny.width)
            .zip(tiny.of_tokens.chunks(tiny.width))
            .map(|(got, want)| encoders::distance(got, want))
            .fold(0.0, |worst, x: f32| if x > worst || x.is_nan() { x } else { worst });
        println!("{}: the worst token is off by {worst:.1e}", tiny.name);
        assert!(worst <= 2e-3, "{}: off by {worst}", tiny.name);
    }
}

#[test]
fn reading_takes_no_more_memory_than_was_said() {
    for tiny in encoders::all() {
        let said = outline(&Gguf::open(&tiny.model).unwrap()).unwrap().encoder.unwrap();
        for precision in [Precision::Fast, Precision::Full] {
            let mut encoder = load(&tiny, precision);
            let text: Vec<u32> = (0..said.spec.max_tokens).map(|i| i as u32 % 150).collect();
            let short: Vec<&[u32]> = text.chunks(4).cycle().take(128).collect();
            for texts in [&short[..], &[&text[..]], &[&text[..60]; 8]] {
                encoder.begin(texts).unwrap();
                let mut out = Vectors::default();
                assert_eq!(encoder.advance(usize::MAX, &mut out), Ok(BatchIs::Done));
            }
            let taken = encoder.backend().n_bytes() as u64;
            println!("{}: {taken} bytes of {}", tiny.name, said.work_bytes);
            assert!(
                taken <= said.work_bytes && 4 * taken > said.work_bytes,
                "{taken} of {}",
                said.work_bytes
            );
        }
    }
}
