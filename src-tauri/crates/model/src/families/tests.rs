//! What metadata becomes, and what is refused.

mod delta;
mod encoders;
mod shared_kv;
mod states;

use super::*;
use crate::plan::experts::{ExpertFunction, ExpertsPlan};
use crate::plan::model_plan::{
    Activation, AttentionPlan, FeedForwardPlan, GatedPlan, KvPlan, NormOver, Temperature,
};
use crate::plan::rope_plan::{RopeFactors, RopePairs, RopePlan, YarnPlan};
use crate::testing::gguf_writer::GgufWriter;
use kernels::activations::Gate;
use kernels::attention::Ahead;
use kernels::experts::{ExpertGroups, Router, Scoring};
use scheduler::AttentionSpan;

fn plan(file: GgufWriter) -> ModelPlan {
    read(&file.open()).unwrap().0
}

fn attention(plan: &ModelPlan, layer: usize) -> &AttentionPlan {
    plan.layers[layer].softmax().unwrap()
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
        ahead: Ahead::Hidden,
        scale: 1.0 / 32_f32.sqrt(),
        softcap: None,
        rope_idx: Some(0),
        norm_over: NormOver::Heads,
        temperature: None,
        kv: KvPlan::Own,
        norms_values: false,
        is_gated: false,
    };
    assert!(plan.layers.iter().all(|layer| layer.softmax() == Some(&attention)));
    let activation = Activation::Silu;
    assert_eq!(plan.layers[1].feed_forward, FeedForwardPlan::Gated(GatedPlan { n_ff: 96, activation }));
    assert_eq!((plan.embedding_scale, plan.logit_softcap), (1.0, None));
    let pairs = RopePairs::Interleaved;
    assert_eq!(plan.ropes, [RopePlan::plain(pairs, 32, 5e5)]);
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
    let full: Vec<usize> = (0..14).filter(|&l| attention(&plan, l).span == AttentionSpan::Full).collect();
    assert_eq!(full, [5, 11]);
    assert_eq!(attention(&plan, 0).span, AttentionSpan::Window { tokens: 512 });
    assert_eq!((attention(&plan, 0).rope_idx, attention(&plan, 5).rope_idx), (Some(1), Some(0)));
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
        let plan = plan(file);
        (0..plan.layers.len()).map(|l| attention(&plan, l).span != AttentionSpan::Full).collect()
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
    assert_eq!(
        cause,
        "architecture \"mamba\"; `llama`, `gemma3`, `gemma4`, `qwen2`, `qwen3`, `qwen3moe`, `qwen35`, `qwen35moe`, \
         `qwen3next`, `mistral3`, `smollm3`, `granite`, `granitehybrid`, `phi3`, `olmo2`, `gpt-oss`, `deepseek2`, \
         `lfm2`, `lfm2moe`, `nemotron_h`, `nemotron_h_moe`, `bert`, `nomic-bert` and `gemma-embedding` are"
    );
}

#[test]
fn a_key_that_a_family_does_not_know_is_refused_by_its_name() {
    let check = |file: GgufWriter, key: &str| {
        let cause = refusal(file);
        assert!(cause.starts_with(&format!("metadata key `{key}`")), "{cause:?} does not name {key:?}");
    };
    let (llama, qwen) = (|| GgufWriter::tiny("llama"), || GgufWriter::tiny("qwen3"));
    check(llama().f32("llama.residual_scale", 0.22), "llama.residual_scale");
    check(llama().f32("llama.rope.scaling.alpha", 1000.0), "llama.rope.scaling.alpha");
    check(llama().u32("llama.attention.sliding_window_pattern", 4), "llama.attention.sliding_window_pattern");
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
fn every_family_has_a_tiny_model_and_what_the_reference_makes_with_it() {
    for family in FAMILIES {
        for ending in ["gguf", "vec"] {
            // Of logits or of vectors.
            let there = ["families", "encoders"].into_iter().filter(|folder| {
                let file = format!("tests/{folder}/{}.{ending}", family.architecture);
                std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file()
            });
            let name = family.architecture;
            assert_eq!(there.count(), 1, "{name}.{ending}: src-tauri/dev/vectors/make_vectors.py makes it");
        }
    }
}

#[test]
fn rotations_are_stretched_as_the_file_says() {
    let llama = |kind: &str| GgufWriter::tiny("llama").str("llama.rope.scaling.type", kind);
    let rope = |file: GgufWriter| plan(file).ropes.remove(0);
    let yarn = || llama("yarn").f32("llama.rope.scaling.factor", 4.0);
    let plain = RopePlan::plain(RopePairs::Interleaved, 32, 1e4);

    let usual = YarnPlan { factor: 4.0, original_context: 256, beta_fast: 32.0, beta_slow: 1.0, kept: 1.0 };
    let magnitude = 0.1 * 4_f32.ln() + 1.0;
    assert_eq!(rope(yarn()), RopePlan { yarn: Some(usual), magnitude, ..plain.clone() });
    let said = yarn()
        .u32("llama.rope.scaling.original_context_length", 64)
        .f32("llama.rope.scaling.yarn_beta_fast", 16.0)
        .f32("llama.rope.scaling.yarn_beta_slow", 2.0)
        .f32("llama.rope.scaling.yarn_ext_factor", 0.5)
        .f32("llama.rope.scaling.yarn_log_multiplier", 1.0)
        .f32("llama.rope.scaling.attn_factor", 1.19);
    let stretch = YarnPlan { factor: 4.0, original_context: 64, beta_fast: 16.0, beta_slow: 2.0, kept: 0.5 };
    assert_eq!(rope(said), RopePlan { yarn: Some(stretch), magnitude: 1.19, ..plain.clone() });
    // Its own number says what is usual, or that nothing of it is kept it counts alone.
    assert_eq!(rope(yarn().f32("llama.rope.scaling.yarn_attn_factor", magnitude)).magnitude, magnitude);
    let alone =
        yarn().f32("llama.rope.scaling.yarn_attn_factor", 1.5).f32("llama.rope.scaling.yarn_ext_factor", 0.0);
    assert_eq!(rope(alone).magnitude, 1.5);

    let linear = llama("linear").f32("llama.rope.scaling.factor", 8.0);
    assert_eq!(rope(linear), RopePlan { position_scale: 0.125, ..plain.clone() });
    assert_eq!(rope(llama("none").f32("llama.rope.scaling.factor", 8.0)), plain);

    let check = |file: GgufWriter, want: &str| {
        let cause = refusal(file);
        assert!(cause.contains(want), "{cause:?} does not say {want:?}");
    };
    check(llama("dynamic"), "rope scaling \"dynamic\"");
    check(yarn().f32("llama.rope.scaling.yarn_attn_factor", 1.5), "yarn_attn_factor` of 1.5 beside yarn");
    check(
        llama("linear").f32("llama.rope.scaling.yarn_ext_factor", 1.0),
        "yarn_ext_factor` of 1 beside linear",
    );
    check(llama("longrope"), "tensor `rope_factors_short.weight` is missing");
    check(llama("longrope").f32("llama.rope.scaling.factor", 4.0), "factor` of 4 beside longrope");
}

#[test]
fn a_context_that_is_long_turns_by_factors_of_its_own() {
    let factors =
        |from: u8| -> Vec<u8> { (from..from + 16).flat_map(|i| f32::from(i).to_le_bytes()).collect() };
    let file = GgufWriter::tiny("llama")
        .str("llama.rope.scaling.type", "longrope")
        .u32("llama.rope.scaling.original_context_length", 128)
        .tensor_of("rope_factors_short.weight", &[16], 0, factors(1))
        .tensor_of("rope_factors_long.weight", &[16], 0, factors(101));
    let plan = plan(file);
    for (n_tokens, want, first) in [(128, RopeFactors::Short, 1.0), (129, RopeFactors::Long, 101.0)] {
        assert_eq!(plan.rope_factors(n_tokens), Some(want));
        let chosen = plan.clone().in_context(n_tokens);
        assert_eq!((chosen.ropes[0].factors[0], &chosen.ropes[0].long), (first, &None));
    }
    let other = read(&GgufWriter::tiny("llama").open()).unwrap().0;
    assert_eq!(other.rope_factors(1 << 20), None);
}

#[test]
fn layers_may_each_have_a_shape_of_their_own() {
    let counts = |values: &[u32]| {
        let head = [&4_u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
        values.iter().fold(head, |bytes, value| [&bytes[..], &value.to_le_bytes()].concat())
    };
    let with = |key: &str, values: &[u32]| GgufWriter::tiny("llama").raw(key, 9, &counts(values));
    let heads = |file: GgufWriter| -> Vec<(usize, usize)> {
        plan(file)
            .layers
            .iter()
            .map(|layer| (layer.softmax().unwrap().n_heads, layer.softmax().unwrap().n_kv_heads))
            .collect()
    };
    assert_eq!(heads(with("llama.attention.head_count", &[2, 4])), [(2, 1), (4, 1)]);
    assert_eq!(heads(with("llama.attention.head_count_kv", &[2, 1])), [(2, 2), (2, 1)]);
    let widths = plan(with("llama.feed_forward_length", &[96, 32])).layers;
    assert!(matches!(widths[1].feed_forward, FeedForwardPlan::Gated(GatedPlan { n_ff: 32, .. })));
    assert!(refusal(with("llama.feed_forward_length", &[96])).contains("1 entries for 2 layers"));
    assert!(refusal(with("llama.attention.head_count_kv", &[1, 0])).contains("is 0, not from 1"));
}

#[test]
fn blocks_that_guess_further_tokens_are_ignored() {
    let llama = || GgufWriter::tiny("llama");
    let file = llama().u32("llama.nextn_predict_layers", 1).tensor("blk.1.nextn.eh_proj.weight", &[128, 64]);
    let (plan, tensors) = read(&file.open()).unwrap();
    assert_eq!((plan.layers.len(), plan.ignored_blocks), (1, 1..2));
    assert!(tensors.ignores("blk.1.nextn.eh_proj.weight") && tensors.ignores("blk.1.attn_q.weight"));
    assert!(!tensors.ignores("blk.0.attn_q.weight") && !tensors.ignores("blk.10.x") && !tensors.ignores("x"));
    let cause = refusal(llama().u32("llama.nextn_predict_layers", 2));
    assert_eq!(cause, "2 of 2 blocks guess further tokens");
}

#[test]
fn a_mistral3_has_queries_that_grow() {
    let file = || GgufWriter::tiny("mistral3").f32("mistral3.attention.temperature_scale", 0.1);
    let missing = "`mistral3.rope.scaling.original_context_length` is missing";
    assert!(refusal(file()).contains(missing));
    let plan = plan(file().u32("mistral3.rope.scaling.original_context_length", 64));
    let want = Temperature { scale: 0.1, original_context: 64 };
    assert!(plan.layers.iter().all(|layer| layer.softmax().unwrap().temperature == Some(want)));
    assert_eq!(
        [0, 63, 64, 128].map(|at| want.at(at)),
        [1.0, 1.0, 1.0 + 0.1 * 2_f32.ln(), 1.0 + 0.1 * 3_f32.ln()]
    );
}

#[test]
fn a_smollm3_turns_nothing_in_every_fourth_layer() {
    let plan = plan(GgufWriter::tiny("smollm3").u32("smollm3.block_count", 9));
    let still: Vec<usize> =
        (0..9).filter(|&l| plan.layers[l].softmax().unwrap().rope_idx.is_none()).collect();
    assert_eq!(still, [3, 7]);
}

#[test]
fn a_granite_scales_and_may_turn_nothing() {
    let file = || GgufWriter::tiny("granite").f32("granite.logit_scale", 8.0);
    assert!(refusal(GgufWriter::tiny("granite")).contains("`granite.logit_scale` is missing"));
    let scaled = plan(
        file()
            .f32("granite.embedding_scale", 12.0)
            .f32("granite.residual_scale", 0.22)
            .f32("granite.attention.scale", 0.0625),
    );
    let scales = (scaled.embedding_scale, scaled.branch_scale, scaled.logit_scale);
    assert_eq!((scales, scaled.layers[0].softmax().unwrap().scale), ((12.0, 0.22, 0.125), 0.0625));
    assert_eq!(scaled.layers[0].softmax().unwrap().rope_idx, Some(0));
    let still = plan(file().raw("granite.rope.scaling.finetuned", 7, &[0]));
    assert_eq!(still.layers[0].softmax().unwrap().rope_idx, None);
}

#[test]
fn a_phi3_has_the_window_of_its_file_where_that_is_narrower_than_its_context() {
    let span = |window: u32| {
        let file = GgufWriter::tiny("phi3").u32("phi3.attention.sliding_window", window);
        plan(file).layers[0].softmax().unwrap().span
    };
    assert_eq!(
        [span(0), span(255), span(256)],
        [AttentionSpan::Full, AttentionSpan::Window { tokens: 255 }, AttentionSpan::Full]
    );
}

#[test]
fn an_olmo2_stretches_no_window() {
    let file = GgufWriter::tiny("olmo2")
        .u32("olmo2.block_count", 5)
        .f32("olmo2.rope.freq_base", 5e5)
        .str("olmo2.rope.scaling.type", "yarn")
        .f32("olmo2.rope.scaling.factor", 8.0)
        .u32("olmo2.attention.sliding_window", 64);
    let plan = plan(file);
    let full: Vec<usize> =
        (0..5).filter(|&l| plan.layers[l].softmax().unwrap().span == AttentionSpan::Full).collect();
    assert_eq!(full, [3]);
    assert!(plan.ropes[0].yarn.is_some());
    assert_eq!(plan.ropes[1], RopePlan::plain(RopePairs::SplitHalf, 32, 5e5));
    assert!(plan.layers.iter().all(|layer| layer.softmax().unwrap().norm_over == NormOver::Tokens));
}

/// A llama that says to have 8 experts, of which a token goes through 2.
fn mixture() -> GgufWriter {
    GgufWriter::tiny("llama").u32("llama.expert_count", 8).u32("llama.expert_used_count", 2)
}

fn experts(file: GgufWriter) -> Vec<Option<ExpertsPlan>> {
    let of = |feed_forward| match feed_forward {
        FeedForwardPlan::Experts(experts) => Some(experts),
        FeedForwardPlan::Gated(_) | FeedForwardPlan::Ungated(_) | FeedForwardPlan::Nothing => None,
    };
    plan(file).layers.iter().map(|layer| of(layer.feed_forward)).collect()
}

#[test]
fn a_mixture_of_experts_is_described() {
    let router = Router {
        n_experts: 8,
        n_used: 2,
        scoring: Scoring::Softmax,
        groups: None,
        is_normalised: true,
        scale: 1.0,
    };
    let usual = ExpertsPlan {
        n_ff: 96,
        n_latent: None,
        function: ExpertFunction::Gated(Gate::Silu),
        router_scale: 1.0,
        router,
        shared_n_ff: None,
    };
    assert_eq!(experts(mixture()), [Some(usual); 2]);
    let full = mixture()
        .u32("llama.leading_dense_block_count", 1)
        .u32("llama.expert_feed_forward_length", 32)
        .u32("llama.expert_shared_count", 3)
        .u32("llama.expert_gating_func", 2)
        .u32("llama.expert_group_count", 4)
        .u32("llama.expert_group_used_count", 2)
        .raw("llama.expert_weights_norm", 7, &[0])
        .f32("llama.expert_weights_scale", 2.5);
    let groups = Some(ExpertGroups { n: 4, n_used: 2 });
    let router = Router { scoring: Scoring::Sigmoid, groups, is_normalised: false, scale: 2.5, ..router };
    let described = ExpertsPlan { n_ff: 32, router, shared_n_ff: Some(96), ..usual };
    assert_eq!(experts(full), [None, Some(described)]);
    let wide = experts(mixture().u32("llama.expert_shared_feed_forward_length", 40))[0].unwrap();
    assert_eq!(wide.shared_n_ff, Some(40));
    let gpt_oss =
        GgufWriter::tiny("gpt-oss").u32("gpt-oss.expert_count", 8).u32("gpt-oss.expert_used_count", 2);
    let gpt_oss = experts(gpt_oss)[0].unwrap();
    assert_eq!((gpt_oss.router.scoring, gpt_oss.router.is_normalised), (Scoring::SoftmaxOfChosen, false));
    assert_eq!(gpt_oss.function, ExpertFunction::Gated(Gate::ClampedSilu));
}

#[test]
fn a_mixture_that_cannot_be_is_refused() {
    let check = |file: GgufWriter, want: &str| {
        let cause = refusal(file);
        assert!(cause.contains(want), "{cause:?} does not say {want:?}");
    };
    let llama = || GgufWriter::tiny("llama").u32("llama.expert_count", 8);
    check(llama(), "`llama.expert_used_count` is missing");
    check(llama().u32("llama.expert_used_count", 9), "`llama.expert_used_count` is 9, not from 1 to 8");
    check(llama().u32("llama.expert_used_count", 0), "`llama.expert_used_count` is 0");
    check(mixture().u32("llama.expert_count", u32::MAX), "not from 1 to 1024");
    check(mixture().u32("llama.expert_gating_func", 4), "the way 4 of choosing experts");
    check(mixture().u32("llama.interleave_moe_layer_step", 2), "experts in one of 2 layers");
    check(mixture().u32("llama.expert_feed_forward_length", u32::MAX), "not from 1 to");
    let groups = |n: u32, used: u32| {
        mixture().u32("llama.expert_group_count", n).u32("llama.expert_group_used_count", used)
    };
    for (n, used) in [(3, 1), (4, 0), (4, 5), (8, 1), (u32::MAX, 1)] {
        check(groups(n, used), &format!("2 of 8 experts, of {used} of {n} groups"));
    }
    assert!(experts(groups(4, 1))[0].is_some());
}

#[test]
fn experts_that_a_file_merely_claims_take_no_memory() {
    let n_places = |file: GgufWriter| read(&file.open()).unwrap().1.places().len();
    let claimed = mixture().u32("llama.expert_count", 1024);
    assert!(n_places(claimed) < 40);
    let stacked = |file: GgufWriter, name: &str, shape: &[u64]| {
        (0..2).fold(file, |file, layer| file.tensor(&format!("blk.{layer}.{name}.weight"), shape))
    };
    let file = stacked(mixture(), "ffn_gate_exps", &[64, 96, 8]);
    let file = stacked(stacked(file, "ffn_up_exps", &[64, 96, 8]), "ffn_down_exps", &[96, 64, 8]);
    let (_, tensors) = read(&file.open()).unwrap();
    let places = tensors.places();
    let of_last: Vec<_> = places.iter().filter(|place| place.name == "blk.1.ffn_down_exps.weight").collect();
    assert_eq!(of_last.len(), 8);
    assert_eq!((&of_last[3].part, &of_last[7].part), (&Some(3 * 64..4 * 64), &Some(7 * 64..8 * 64)));
}
