//! What metadata becomes, and what is refused.

use super::*;
use crate::testing::GgufWriter;

fn spec(file: GgufWriter) -> ModelSpec {
    ModelSpec::read(&file.open()).unwrap()
}

fn refusal(file: GgufWriter) -> String {
    match ModelSpec::read(&file.open()) {
        Ok(_) => panic!("it was accepted"),
        Err(Cause::Malformed(cause) | Cause::Unsupported(cause)) => cause,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_llama_is_described() {
    let spec = spec(GgufWriter::tiny("llama").f32("llama.rope.freq_base", 5e5));
    assert_eq!((spec.n_vocab, spec.n_embd, spec.n_ff), (40, 64, 96));
    assert_eq!((spec.n_heads, spec.n_kv_heads, spec.k_dim, spec.v_dim, spec.n_rot), (2, 1, 32, 32, 32));
    assert_eq!((spec.activation, spec.rope_pairs), (Activation::Silu, RopePairs::Interleaved));
    assert_eq!((spec.embedding_scale, spec.qk_norm, spec.post_norms), (1.0, false, false));
    assert_eq!(spec.attention_scale, 1.0 / 32_f32.sqrt());
    assert_eq!(spec.ropes, [RopeSpec { base: 5e5, position_scale: 1.0, factors: vec![] }]);
    assert!(spec.layers.iter().all(|layer| layer.span == AttentionSpan::Full && layer.rope_idx == 0));
    let cache = spec.cache_spec();
    assert_eq!((cache.layers.len(), cache.max_context, cache.n_vocab), (2, 256, 40));
}

#[test]
fn a_gemma3_has_five_windows_to_one_full_layer() {
    let file = GgufWriter::tiny("gemma3")
        .u32("gemma3.block_count", 14)
        .u32("gemma3.attention.sliding_window", 512)
        .f32("gemma3.rope.freq_base", 1e6)
        .str("gemma3.rope.scaling.type", "linear")
        .f32("gemma3.rope.scaling.factor", 8.0);
    let spec = spec(file);
    let full: Vec<usize> = (0..14).filter(|&l| spec.layers[l].span == AttentionSpan::Full).collect();
    assert_eq!(full, [5, 11]);
    assert_eq!(spec.layers[0].span, AttentionSpan::Window { tokens: 512 });
    assert_eq!((spec.layers[0].rope_idx, spec.layers[5].rope_idx), (1, 0));
    assert_eq!((spec.ropes[0].base, spec.ropes[0].position_scale), (1e6, 0.125));
    assert_eq!((spec.ropes[1].base, spec.ropes[1].position_scale), (1e4, 1.0));
    assert_eq!((spec.embedding_scale, spec.qk_norm, spec.post_norms), (8.0, true, true));
    assert_eq!((spec.activation, spec.rope_pairs), (Activation::GeluTanh, RopePairs::SplitHalf));
}

#[test]
fn the_window_pattern_of_the_file_wins() {
    let windowed = || GgufWriter::tiny("gemma3").u32("gemma3.attention.sliding_window", 16);
    let spans = |file: GgufWriter| -> Vec<bool> {
        spec(file).layers.iter().map(|layer| layer.span != AttentionSpan::Full).collect()
    };
    assert_eq!(spans(windowed()), [true, true]);
    let key = "gemma3.attention.sliding_window_pattern";
    assert_eq!(spans(windowed().u32(key, 2)), [true, false]);
    let bools =
        |values: &[u8]| [&7_u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), values].concat();
    assert_eq!(spans(windowed().raw(key, 9, &bools(&[0, 1]))), [false, true]);
    assert!(refusal(windowed().raw(key, 9, &bools(&[1]))).contains("1 entries for 2 layers"));
}

#[test]
fn rope_factors_come_from_the_file() {
    let factors: Vec<u8> = (1..=16).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let with = |shape: &[u64], bytes: Vec<u8>| {
        GgufWriter::tiny("llama").tensor_of("rope_freqs.weight", shape, 0, bytes)
    };
    assert_eq!(spec(with(&[16], factors.clone())).ropes[0].factors[15], 16.0);
    assert!(refusal(with(&[8], factors[..32].to_vec())).contains("has shape [8] where [16] is needed"));
    assert!(refusal(with(&[16], vec![0; 64])).contains("divides by nothing"));
}

#[test]
fn what_we_do_not_run_is_refused_by_name() {
    let check = |file: GgufWriter, want: &str| {
        let cause = refusal(file);
        assert!(cause.contains(want), "{cause:?} does not say {want:?}");
    };
    let llama = || GgufWriter::tiny("llama");
    check(llama().str("general.architecture", "mamba"), "architecture \"mamba\"");
    check(GgufWriter::new().u32("x", 1), "`general.architecture` is missing");
    check(llama().u32("llama.expert_count", 8), "8 experts");
    check(llama().str("llama.rope.scaling.type", "yarn"), "rope scaling \"yarn\"");
    check(llama().u32("llama.block_count", 0), "`llama.block_count` is 0");
    check(llama().u32("llama.block_count", u32::MAX), "not from 1 to 1024");
    check(llama().u32("llama.attention.head_count", 0), "`llama.attention.head_count` is 0");
    check(llama().u32("llama.attention.head_count_kv", 3), "2 query heads on 3 KV heads");
    check(llama().u32("llama.rope.dimension_count", 64), "not from 1 to 32");
    check(llama().u32("llama.embedding_length", 96), "shape [64, 40], width 96");
    check(llama().str("llama.context_length", "long"), "is a string where an integer is needed");
    check(llama().f32("llama.attention.layer_norm_rms_epsilon", f32::NAN), "out of range");
    check(llama().without("token_embd.weight"), "`token_embd.weight` is missing");
}
