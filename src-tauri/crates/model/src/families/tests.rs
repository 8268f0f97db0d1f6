//! What metadata becomes, and what is refused.

use super::*;
use crate::plan::model_plan::{Activation, AttentionPlan, FeedForwardPlan, GatedPlan, NormOver};
use crate::plan::rope_plan::{RopePairs, RopePlan};
use crate::testing::gguf_writer::GgufWriter;
use scheduler::AttentionSpan;

fn plan(file: GgufWriter) -> ModelPlan {
    read(&file.open()).unwrap().0
}

fn refusal(file: GgufWriter) -> String {
    match read(&file.open()) {
        Ok(_) => panic!("it was accepted"),
        Err(Cause::Malformed(cause) | Cause::Unsupported(cause)) => cause,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_llama_is_described() {
    let plan = plan(GgufWriter::tiny("llama").f32("llama.rope.freq_base", 5e5));
    assert_eq!((plan.n_vocab, plan.n_embd, plan.layers.len()), (40, 64, 2));
    let attention = AttentionPlan {
        n_heads: 2,
        n_kv_heads: 1,
        k_dim: 32,
        v_dim: 32,
        span: AttentionSpan::Full,
        scale: 1.0 / 32_f32.sqrt(),
        softcap: None,
        rope_idx: Some(0),
        norm_over: NormOver::Heads,
        temperature: None,
    };
    assert!(plan.layers.iter().all(|layer| layer.attention == attention));
    let activation = Activation::Silu;
    assert_eq!(plan.layers[1].feed_forward, FeedForwardPlan::Gated(GatedPlan { n_ff: 96, activation }));
    assert_eq!((plan.embedding_scale, plan.logit_softcap), (1.0, None));
    let pairs = RopePairs::Interleaved;
    assert_eq!(plan.ropes, [RopePlan { pairs, n_rot: 32, base: 5e5, position_scale: 1.0, factors: vec![] }]);
    let cache = plan.cache_spec();
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
    let plan = plan(file);
    let full: Vec<usize> =
        (0..14).filter(|&l| plan.layers[l].attention.span == AttentionSpan::Full).collect();
    assert_eq!(full, [5, 11]);
    assert_eq!(plan.layers[0].attention.span, AttentionSpan::Window { tokens: 512 });
    assert_eq!((plan.layers[0].attention.rope_idx, plan.layers[5].attention.rope_idx), (Some(1), Some(0)));
    assert_eq!((plan.ropes[0].base, plan.ropes[0].position_scale), (1e6, 0.125));
    assert_eq!((plan.ropes[1].base, plan.ropes[1].position_scale), (1e4, 1.0));
    assert_eq!(plan.embedding_scale, 8.0);
    let activation = Activation::GeluTanh;
    assert_eq!(plan.layers[0].feed_forward, FeedForwardPlan::Gated(GatedPlan { n_ff: 96, activation }));
    assert!(plan.ropes.iter().all(|rope| rope.pairs == RopePairs::SplitHalf));
}

#[test]
fn the_window_pattern_of_the_file_wins() {
    let windowed = || GgufWriter::tiny("gemma3").u32("gemma3.attention.sliding_window", 16);
    let spans = |file: GgufWriter| -> Vec<bool> {
        plan(file).layers.iter().map(|layer| layer.attention.span != AttentionSpan::Full).collect()
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
    assert_eq!(plan(with(&[16], factors.clone())).ropes[0].factors[15], 16.0);
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
    check(GgufWriter::tiny("qwen2").u32("qwen2.expert_count", 8), "a mixture of 8 experts");
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

#[test]
fn an_unknown_architecture_is_refused_with_the_list_of_known_ones() {
    let cause = refusal(GgufWriter::tiny("llama").str("general.architecture", "mamba"));
    assert_eq!(cause, "architecture \"mamba\"; `llama`, `gemma3`, `qwen2`, `qwen3` and `qwen3moe` are");
}

#[test]
fn a_key_that_a_family_does_not_know_is_refused_by_its_name() {
    let check = |file: GgufWriter, key: &str| {
        let cause = refusal(file);
        assert!(cause.starts_with(&format!("metadata key `{key}`")), "{cause:?} does not name {key:?}");
    };
    let (llama, qwen) = (|| GgufWriter::tiny("llama"), || GgufWriter::tiny("qwen3"));
    check(llama().f32("llama.residual_scale", 0.22), "llama.residual_scale");
    check(llama().f32("llama.rope.scaling.attn_factor", 1.19), "llama.rope.scaling.attn_factor");
    check(llama().u32("llama.attention.sliding_window_pattern", 4), "llama.attention.sliding_window_pattern");
    check(llama().u32("llama.nextn_predict_layers", 1), "llama.nextn_predict_layers");
    check(llama().str("llama.b\nb", "x"), "llama.b\\nb");
    check(qwen().u32("qwen3.attention.sliding_window", 16), "qwen3.attention.sliding_window");
    check(
        qwen().raw("qwen3.full_attention_interval", 10, &4_u64.to_le_bytes()),
        "qwen3.full_attention_interval",
    );
}

#[test]
fn keys_that_say_nothing_or_belong_to_others_do_no_harm() {
    let llama = GgufWriter::tiny("llama")
        .u32("llama.vocab_size", 7)
        .u32("llama.expert_count", 0)
        .u32("llama.expert_used_count", 2)
        .str("llama.tensor_data_layout", "Meta AI original pth")
        .u32("llama.rope.scaling.original_context_length", 128)
        .f32("llama.residual_scale", 1.0)
        .u32("llama.leading_dense_block_count", 0)
        .raw("llama.use_parallel_residual", 7, &[0])
        .u32("llama.mm.tokens", 4)
        .f32("granite.residual_scale", 0.22)
        .f32("general.sampling.temp", 0.7);
    assert_eq!(plan(llama), plan(GgufWriter::tiny("llama")));
}

#[test]
fn every_family_has_a_tiny_model_and_reference_logits() {
    for family in FAMILIES {
        for ending in ["gguf", "vec"] {
            let file = format!("tests/families/{}.{ending}", family.architecture);
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
            assert!(path.is_file(), "`{file}` is missing: src-tauri/dev/vectors/make_vectors.py makes it");
        }
    }
}
