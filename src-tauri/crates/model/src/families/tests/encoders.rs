//! Models that read whole texts for their vectors.

use kernels::attention::Ahead;
use scheduler::{AttentionSpan, EmbedSpec, Pooling};

use super::{attention, plan, refusal};
use crate::plan::encoder_plan::{EncoderPlan, ProjectionPlan};
use crate::plan::model_plan::{Activation, FeedForwardPlan, GatedPlan, UngatedFunction, UngatedPlan};
use crate::plan::rope_plan::{RopePairs, RopePlan};
use crate::testing::gguf_writer::GgufWriter;

/// The keys that files of BERT's kin have, and the tensor whose shape they speak of.
fn file(architecture: &str) -> GgufWriter {
    let key = |rest: &str| format!("{architecture}.{rest}");
    let eps = if architecture == "gemma-embedding" { "layer_norm_rms_epsilon" } else { "layer_norm_epsilon" };
    GgufWriter::new()
        .str("general.architecture", architecture)
        .u32(&key("block_count"), 2)
        .u32(&key("context_length"), 256)
        .u32(&key("embedding_length"), 64)
        .u32(&key("feed_forward_length"), 96)
        .u32(&key("attention.head_count"), 4)
        .f32(&key(&format!("attention.{eps}")), 1e-12)
        .raw(&key("attention.causal"), 7, &[0])
        .u32(&key("pooling_type"), 2)
        .tensor("token_embd.weight", &[64, 40])
}

#[test]
fn a_bert_is_described() {
    let plan = plan(file("bert"));
    assert_eq!((plan.max_context, plan.norm_eps, plan.ropes.len()), (256, 1e-12, 0));
    for (idx, layer) in plan.layers.iter().enumerate() {
        let attention = attention(&plan, idx);
        assert_eq!(
            (attention.ahead, attention.span, attention.rope_idx),
            (Ahead::Seen, AttentionSpan::Full, None)
        );
        assert_eq!((attention.n_heads, attention.n_kv_heads, attention.scale), (4, 4, 0.25));
        let function = UngatedFunction::GeluTanh;
        assert_eq!(layer.feed_forward, FeedForwardPlan::Ungated(UngatedPlan { n_ff: 96, function }));
    }
    assert_eq!(plan.encoder, Some(EncoderPlan { pooling: Pooling::First, projections: vec![] }));
    let spec = EmbedSpec { width: 64, max_tokens: 256, n_vocab: 40, pooling: Pooling::First, n_parts: 2 };
    assert_eq!(plan.embed_spec(), Some(spec));
}

#[test]
fn a_nomic_bert_turns_and_gates() {
    let plan =
        plan(file("nomic-bert").f32("nomic-bert.rope.freq_base", 1000.0).u32("nomic-bert.pooling_type", 1));
    assert_eq!(plan.ropes, [RopePlan::plain(RopePairs::SplitHalf, 16, 1000.0)]);
    assert_eq!((attention(&plan, 1).ahead, attention(&plan, 1).rope_idx), (Ahead::Seen, Some(0)));
    let gated = GatedPlan { n_ff: 96, activation: Activation::Silu };
    assert_eq!(plan.layers[0].feed_forward, FeedForwardPlan::Gated(gated));
    assert_eq!(plan.encoder.unwrap().pooling, Pooling::Mean);
}

#[test]
fn an_embedding_gemma_looks_half_a_window_each_way_and_may_end_with_products() {
    let gemma = || {
        file("gemma-embedding")
            .u32("gemma-embedding.attention.sliding_window", 24)
            .u32("gemma-embedding.attention.sliding_window_pattern", 2)
            .f32("gemma-embedding.rope.freq_base", 1e6)
    };
    let plain = plan(gemma());
    assert_eq!((plain.embedding_scale, plain.embed_spec().unwrap().width), (8.0, 64));
    let spans = [0, 1].map(|layer| attention(&plain, layer).span);
    assert_eq!(spans, [AttentionSpan::Window { tokens: 13 }, AttentionSpan::Full]);
    let bases: Vec<f32> = plain.ropes.iter().map(|rope| rope.base).collect();
    assert_eq!((bases, attention(&plain, 0).rope_idx), (vec![1e6, 1e4], Some(1)));
    let dense = |sizes: [u32; 4]| {
        let keys = ["dense_2_feat_in", "dense_2_feat_out", "dense_3_feat_in", "dense_3_feat_out"];
        let with = |file: GgufWriter, (key, n): (&str, u32)| file.u32(&format!("gemma-embedding.{key}"), n);
        keys.into_iter().zip(sizes).fold(gemma(), with)
    };
    let plan = plan(dense([64, 96, 96, 48]));
    let projections = [("dense_2", 64, 96), ("dense_3", 96, 48)];
    let projections = projections.map(|(name, n_in, n_out)| ProjectionPlan { name, n_in, n_out });
    assert_eq!(plan.encoder.as_ref().unwrap().projections, projections);
    assert_eq!(plan.embed_spec().unwrap().width, 48);
    for (sizes, want) in [
        ([60, 96, 96, 48], "`gemma-embedding.dense_2_feat_in` is 60, and 64 values come in"),
        ([64, 96, 97, 48], "`gemma-embedding.dense_3_feat_in` is 97, and 96 values come in"),
        (
            [64, 0, 96, 48],
            "`gemma-embedding.dense_2_feat_in` and `gemma-embedding.dense_2_feat_out` do not fit",
        ),
        ([64, u32::MAX, 96, 48], "not from 1 to"),
    ] {
        let cause = refusal(dense(sizes));
        assert!(cause.contains(want), "{cause:?} does not say {want:?}");
    }
}

#[test]
fn an_encoder_that_asks_for_more_is_refused_by_name() {
    let check = |file: GgufWriter, want: &str| {
        let cause = refusal(file);
        assert!(cause.contains(want), "{cause:?} does not say {want:?}");
    };
    let bert = || file("bert");
    check(bert().raw("bert.attention.causal", 7, &[1]), "an encoder whose attention is causal");
    check(
        bert().u32("bert.rope.dimension_count", 16),
        "`bert.rope.dimension_count` where positions are learnt",
    );
    check(bert().f32("bert.rope.freq_base", 1e4), "`bert.rope.freq_base`, which no bert model here knows");
    check(bert().f32("bert.final_logit_softcapping", 30.0), "an encoder that caps logits");
    check(bert().u32("bert.nextn_predict_layers", 1), "an encoder with blocks that guess further tokens");
    check(bert().u32("bert.expert_count", 8), "a mixture of 8 experts");
    check(bert().u32("bert.dense_2_feat_in", 64), "`bert.dense_2_feat_in`, which no bert model here knows");
    let nomic = file("nomic-bert").u32("nomic-bert.moe_every_n_layers", 2);
    check(nomic, "`nomic-bert.moe_every_n_layers`, which no nomic-bert model here knows");
    check(file("nomic-bert-moe"), "architecture \"nomic-bert-moe\"");
    check(file("jina-bert-v2"), "architecture \"jina-bert-v2\"");
    // By the key that says it, whatever number it has.
    let unsaid = GgufWriter::tiny("gemma-embedding");
    check(
        unsaid,
        "`gemma-embedding.pooling_type` is missing: a vector for each token, and none for the text",
    );
    // A decoder does not look ahead.
    check(GgufWriter::tiny("llama").raw("llama.attention.causal", 7, &[0]), "attention that is not causal");
}
