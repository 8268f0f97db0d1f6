//! Layers that keep a state, or are one block alone.

use kernels::experts::Scoring;
use kernels::recurrent::mamba2::ScanShape;
use scheduler::{AttentionSpan, KvDtype, KvLayout, LayerKv};

use super::{attention, plan, read, refusal};
use crate::plan::experts::ExpertFunction;
use crate::plan::model_plan::{
    Activation, FeedForwardPlan, GatedPlan, LayerPlan, MixerPlan, UngatedFunction, UngatedPlan,
};
use crate::plan::recurrent::{Mamba2Plan, RecurrentPlan, ShortConvPlan};
use crate::testing::gguf_writer::GgufWriter;

fn counts(file: GgufWriter, key: &str, values: &[u32]) -> GgufWriter {
    let head = [&4_u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
    file.raw(key, 9, &values.iter().fold(head, |bytes, value| [&bytes[..], &value.to_le_bytes()].concat()))
}

/// The keys of a Mamba-2 of 4 heads of 32 values in 2 groups, with 16 states.
const MAMBA2: [(&str, u32); 5] = [
    ("ssm.conv_kernel", 4),
    ("ssm.inner_size", 128),
    ("ssm.state_size", 16),
    ("ssm.time_step_rank", 4),
    ("ssm.group_count", 2),
];

fn with_states(architecture: &str) -> GgufWriter {
    let key = |rest: &str| format!("{architecture}.{rest}");
    let file = GgufWriter::tiny(architecture);
    MAMBA2.iter().fold(file, |file, (rest, value)| file.u32(&key(rest), *value))
}

/// A hybrid Granite whose second layer attends.
fn granite() -> GgufWriter {
    counts(with_states("granitehybrid"), "granitehybrid.attention.head_count_kv", &[0, 1])
}

/// A Nemotron of a state, an attention and a feed-forward.
fn nemotron(architecture: &str) -> GgufWriter {
    let key = |rest: &str| format!("{architecture}.{rest}");
    let file = with_states(architecture).u32(&key("block_count"), 3);
    let file = counts(file, &key("attention.head_count_kv"), &[0, 1, 0]);
    counts(file, &key("feed_forward_length"), &[0, 0, 96])
}

fn lfm2(architecture: &str) -> GgufWriter {
    let file = GgufWriter::tiny(architecture).u32(&format!("{architecture}.shortconv.l_cache"), 3);
    counts(file, &format!("{architecture}.attention.head_count_kv"), &[0, 1])
}

fn mamba2() -> MixerPlan {
    let shape = ScanShape { n_heads: 4, head_dim: 32, n_groups: 2, n_states: 16 };
    MixerPlan::Recurrent(RecurrentPlan::Mamba2(Mamba2Plan { shape, n_taps: 4 }))
}

#[test]
fn a_hybrid_granite_keeps_states_where_it_has_no_kv_heads_and_is_scaled_as_granite_is() {
    let scaled = granite()
        .f32("granitehybrid.embedding_scale", 12.0)
        .f32("granitehybrid.residual_scale", 0.25)
        .f32("granitehybrid.attention.scale", 0.5)
        .f32("granitehybrid.logit_scale", 8.0);
    let plan = plan(scaled.clone());
    assert_eq!(plan.layers[0].mixer, mamba2());
    assert_eq!((plan.embedding_scale, plan.branch_scale, plan.logit_scale), (12.0, 0.25, 0.125));
    assert_eq!((attention(&plan, 1).scale, attention(&plan, 1).rope_idx), (0.5, Some(0)));
    let activation = Activation::Silu;
    let feed_forward = FeedForwardPlan::Gated(GatedPlan { n_ff: 96, activation });
    assert!(plan.layers.iter().all(|layer| layer.feed_forward == feed_forward));
    let kv = plan.cache_spec().layers;
    let LayerKv::State(state) = kv[0] else { panic!("{kv:?}") };
    assert_eq!((state.n_heads, state.head_values), (4, 32 * 16));
    assert_eq!((state.n_columns, state.column_values), (3, 128 + 2 * 2 * 16));

    let still = super::plan(scaled.raw("granitehybrid.rope.scaling.finetuned", 7, &[0]));
    assert_eq!(attention(&still, 1).rope_idx, None);
    // Nothing that is not said is asked for.
    assert_eq!(super::plan(granite()).logit_scale, 1.0);
}

#[test]
fn a_nemotron_has_one_block_a_layer() {
    let plan = plan(nemotron("nemotron_h"));
    let [state, attends, feeds] = plan.layers[..] else { panic!("three layers") };
    assert_eq!((state.mixer, state.feed_forward), (mamba2(), FeedForwardPlan::Nothing));
    assert_eq!(attends.softmax().unwrap().rope_idx, None);
    assert_eq!(attends.feed_forward, FeedForwardPlan::Nothing);
    let (mixer, function) = (MixerPlan::Nothing, UngatedFunction::SquaredRelu);
    let feed_forward = FeedForwardPlan::Ungated(UngatedPlan { n_ff: 96, function });
    assert_eq!(feeds, LayerPlan { mixer, feed_forward, output_scale: 1.0 });
    assert_eq!(plan.cache_spec().layers[2], LayerKv::Nothing);

    let both = counts(nemotron("nemotron_h"), "nemotron_h.feed_forward_length", &[0, 96, 96]);
    assert_eq!(refusal(both), "layer 1 has both KV heads and a feed-forward");
}

#[test]
fn a_nemotrons_experts_have_no_gate_and_may_be_of_another_width() {
    let with_experts = || {
        nemotron("nemotron_h_moe")
            .u32("nemotron_h_moe.expert_count", 8)
            .u32("nemotron_h_moe.expert_used_count", 2)
            .u32("nemotron_h_moe.expert_feed_forward_length", 32)
            .u32("nemotron_h_moe.expert_shared_feed_forward_length", 48)
            .raw("nemotron_h_moe.expert_weights_norm", 7, &[1])
            .f32("nemotron_h_moe.expert_weights_scale", 2.5)
    };
    let experts = |file: GgufWriter| match plan(file).layers[2].feed_forward {
        FeedForwardPlan::Experts(experts) => experts,
        other => panic!("{other:?}"),
    };
    let found = experts(with_experts());
    assert_eq!((found.n_ff, found.function), (32, ExpertFunction::SquaredRelu));
    assert_eq!((found.shared_n_ff, found.n_latent), (Some(48), None));
    let router = found.router;
    assert_eq!((router.scoring, router.is_normalised, router.scale), (Scoring::Sigmoid, true, 2.5));
    assert_eq!(experts(with_experts().u32("nemotron_h_moe.moe_latent_size", 32)).n_latent, Some(32));
    let needless = nemotron("nemotron_h_moe").u32("nemotron_h_moe.moe_latent_size", 32);
    assert_eq!(refusal(needless), "experts take 32 values, and there are none");
}

#[test]
fn an_lfm2_convolves_where_it_has_no_kv_heads_and_calls_its_last_norm_otherwise() {
    let (plan, tensors) = read(&lfm2("lfm2").open()).unwrap();
    let conv = ShortConvPlan { n_channels: 64, n_taps: 3 };
    assert_eq!(plan.layers[0].mixer, MixerPlan::Recurrent(RecurrentPlan::ShortConv(conv)));
    assert_eq!(attention(&plan, 1).span, AttentionSpan::Full);
    let names: Vec<String> = tensors.places().into_iter().map(|place| place.name).collect();
    for (name, is_there) in [
        ("token_embd_norm.weight", true),
        ("output_norm.weight", false),
        ("blk.0.shortconv.conv.weight", true),
        ("blk.1.attn_q_norm.weight", true),
        ("blk.0.attn_q.weight", false),
    ] {
        assert_eq!(names.iter().any(|known| known == name), is_there, "{name}");
    }
    let windowed = super::plan(lfm2("lfm2").u32("lfm2.attention.sliding_window", 16));
    assert_eq!(attention(&windowed, 1).span, AttentionSpan::Window { tokens: 16 });
    let cause = refusal(lfm2("lfm2moe").u32("lfm2moe.attention.sliding_window", 16));
    assert!(cause.starts_with("metadata key `lfm2moe.attention.sliding_window`"), "{cause}");
    assert!(
        refusal(lfm2("lfm2").u32("lfm2.shortconv.l_cache", 1)).contains("a convolution of nothing before")
    );
    assert!(refusal(lfm2("lfm2").u32("lfm2.shortconv.l_cache", 17)).contains("not from 1 to 16"));
}

#[test]
fn an_lfm2s_experts_are_scored_by_sigmoid_behind_dense_layers() {
    let file = lfm2("lfm2moe")
        .u32("lfm2moe.expert_count", 8)
        .u32("lfm2moe.expert_used_count", 2)
        .u32("lfm2moe.expert_feed_forward_length", 32)
        .u32("lfm2moe.leading_dense_block_count", 1);
    let layers = plan(file).layers;
    assert!(matches!(layers[0].feed_forward, FeedForwardPlan::Gated(_)));
    let FeedForwardPlan::Experts(experts) = layers[1].feed_forward else { panic!("{layers:?}") };
    assert_eq!((experts.router.scoring, experts.router.is_normalised), (Scoring::Sigmoid, true));
}

#[test]
fn states_that_do_not_come_out_even_are_refused() {
    let check = |rest: &str, value: u32, want: &str| {
        let cause = refusal(granite().u32(&format!("granitehybrid.{rest}"), value));
        assert!(cause.contains(want), "{rest} of {value}: {cause:?} does not say {want:?}");
    };
    check("ssm.group_count", 3, "128 values in 4 heads in 3 groups");
    check("ssm.inner_size", 130, "130 values in 4 heads in 2 groups");
    check("ssm.inner_size", 96, "heads of 24 values in Mamba-2; multiples of 16 up to");
    check("ssm.conv_kernel", 17, "`granitehybrid.ssm.conv_kernel` is 17, not from 1 to 16");
    check("ssm.time_step_rank", 1025, "not from 1 to 1024");
    check("ssm.state_size", u32::MAX, "not from 1 to 1024");
}

#[test]
fn whatever_a_file_claims_of_its_states_is_refused_or_cut_into_blocks() {
    for (file, key, rests) in [
        (granite(), "granitehybrid", &MAMBA2.map(|(rest, _)| rest)[..]),
        (nemotron("nemotron_h"), "nemotron_h", &MAMBA2.map(|(rest, _)| rest)),
        (lfm2("lfm2"), "lfm2", &["shortconv.l_cache", "attention.sliding_window"]),
    ] {
        for rest in rests {
            for value in [0, 1, 2, 3, 16, 1024, 1 << 20, u32::MAX] {
                let Ok((plan, _)) = read(&file.clone().u32(&format!("{key}.{rest}"), value).open()) else {
                    continue;
                };
                let layout = KvLayout::new(&plan.cache_spec(), 32, KvDtype::F16);
                assert!(layout.is_ok_and(|layout| layout.state.n_pieces > 0), "{key}.{rest} of {value}");
            }
        }
    }
}
