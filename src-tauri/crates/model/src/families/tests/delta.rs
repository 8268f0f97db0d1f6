//! What files of models with delta nets are read as, and what of them is refused.

use kernels::recurrent::delta::{DeltaShape, KeyHeads};
use scheduler::{LayerKv, LayerState};

use super::*;
use crate::plan::model_plan::{LayerPlan, MixerPlan};
use crate::plan::recurrent::{GatedDeltaPlan, RecurrentPlan};

const SHAPE: DeltaShape =
    DeltaShape { n_k_heads: 2, n_v_heads: 4, k_dim: 20, v_dim: 16, key_heads: KeyHeads::InTurn };

/// Metadata of a model with delta nets of [`SHAPE`] in all but every second layer; none of its tensors but the plain ones.
fn file(architecture: &str) -> GgufWriter {
    let mut file = GgufWriter::tiny(architecture);
    for (key, value) in [
        ("block_count", 5),
        ("full_attention_interval", 2),
        ("nextn_predict_layers", 1),
        ("rope.dimension_count", 16),
        ("ssm.conv_kernel", 4),
        ("ssm.state_size", 20),
        ("ssm.group_count", 2),
        ("ssm.time_step_rank", 4),
        ("ssm.inner_size", 64),
    ] {
        file = file.u32(&format!("{architecture}.{key}"), value);
    }
    if architecture == "qwen3next" { file } else { sections(file, &[3, 3, 2, 0]) }
}

fn array(file: GgufWriter, key: &str, values: &[u32]) -> GgufWriter {
    let head = [&4_u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
    let bytes = values.iter().fold(head, |bytes, value| [&bytes[..], &value.to_le_bytes()].concat());
    file.raw(key, 9, &bytes)
}

fn sections(file: GgufWriter, sections: &[u32]) -> GgufWriter {
    array(file, "qwen35.rope.dimension_sections", sections)
}

fn bools(file: GgufWriter, values: &[u8]) -> GgufWriter {
    let bytes = [&7_u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), values].concat();
    file.raw("qwen35.attention.recurrent_layers", 9, &bytes)
}

fn recurrent(plan: &ModelPlan) -> Vec<bool> {
    plan.layers.iter().map(|layer| layer.softmax().is_none()).collect()
}

#[test]
fn a_qwen35_has_delta_nets_and_a_state_between_gated_attentions() {
    let plan = plan(file("qwen35"));
    assert_eq!((recurrent(&plan), plan.ignored_blocks.clone()), (vec![true, false, true, false], 4..5));
    let delta = MixerPlan::Recurrent(RecurrentPlan::GatedDelta(GatedDeltaPlan { shape: SHAPE, n_taps: 4 }));
    assert_eq!(plan.layers[2].mixer, delta);
    let attention = attention(&plan, 1);
    assert!(attention.is_gated && attention.rope_idx == Some(0));
    assert_eq!(plan.ropes, [RopePlan::plain(RopePairs::SplitHalf, 16, 1e4)]);
    let state = LayerState { n_heads: 4, head_values: 320, n_columns: 3, column_values: 2 * 40 + 64 };
    let cache = plan.cache_spec();
    assert_eq!(cache.layers[0], LayerKv::State(state));
    assert!(matches!(cache.layers[1], LayerKv::Own(_)));
}

#[test]
fn which_layers_have_a_state_is_what_the_file_says() {
    assert_eq!(recurrent(&plan(bools(file("qwen35"), &[0, 1, 1, 0, 0]))), [false, true, true, false]);
    let every_fourth = file("qwen35").without_key("qwen35.full_attention_interval");
    assert_eq!(recurrent(&plan(every_fourth)), [true, true, true, false]);
    assert!(refusal(bools(file("qwen35"), &[1, 1])).contains("2 entries for 5 layers"));
    let numbers = array(file("qwen35"), "qwen35.attention.recurrent_layers", &[1, 1, 1, 0, 0]);
    assert!(refusal(numbers).contains("no array of truth values"));
}

#[test]
fn heads_share_keys_as_their_architecture_has_it() {
    let shape = |plan: &ModelPlan| match plan.layers[0].mixer {
        MixerPlan::Recurrent(RecurrentPlan::GatedDelta(delta)) => delta.shape,
        other => panic!("{other:?}"),
    };
    assert_eq!(shape(&plan(file("qwen35"))).key_heads, KeyHeads::InTurn);
    assert_eq!(shape(&plan(file("qwen3next"))), DeltaShape { key_heads: KeyHeads::Neighbours, ..SHAPE });
}

#[test]
fn layers_that_are_all_mixtures_need_no_other_width() {
    let file = file("qwen3next").without_key("qwen3next.feed_forward_length");
    assert!(refusal(file.clone()).contains("`qwen3next.feed_forward_length` is missing"));
    let file = file
        .u32("qwen3next.expert_count", 8)
        .u32("qwen3next.expert_used_count", 2)
        .u32("qwen3next.expert_feed_forward_length", 32)
        .u32("qwen3next.expert_shared_feed_forward_length", 48);
    let plan = plan(file);
    let experts = |layer: &LayerPlan| match layer.feed_forward {
        FeedForwardPlan::Experts(experts) => (experts.n_ff, experts.shared_n_ff),
        other => panic!("{other:?}"),
    };
    assert!(plan.layers.iter().all(|layer| experts(layer) == (32, Some(48))));
}

#[test]
fn delta_nets_that_make_no_sense_or_are_not_known_are_refused() {
    let check = |key: &str, value: u32, want: &str| {
        let cause = refusal(file("qwen35").u32(&format!("qwen35.{key}"), value));
        assert!(cause.contains(want), "{key} {value}: {cause:?} does not say {want:?}");
    };
    check("ssm.group_count", 3, "64 values in 4 heads on 3 heads of keys");
    check("ssm.group_count", 0, "`qwen35.ssm.group_count` is 0, not from 1");
    check("ssm.time_step_rank", 5000, "not from 1 to 1024");
    check("ssm.inner_size", 66, "66 values in 4 heads");
    check("ssm.inner_size", 4 * 24, "heads of 24 values in a delta net; multiples of 16");
    check("ssm.inner_size", 1 << 30, "not from 1 to");
    check("ssm.inner_size", 4 * 1040, "heads of 1040 values");
    check("ssm.state_size", 5000, "not from 1 to 1024");
    check("ssm.conv_kernel", 17, "not from 1 to 16");
    check("ssm.conv_kernel", 0, "not from 1 to 16");
    check("full_attention_interval", 0, "is 0, not from 1");
    check("attention.value_length", 48, "gates of 32 values on values of 48");
    check("ssm.dt_b_c_rms", 1, "metadata key `qwen35.ssm.dt_b_c_rms`");
    let missing = refusal(file("qwen35").without_key("qwen35.ssm.state_size"));
    assert!(missing.contains("`qwen35.ssm.state_size` is missing"), "{missing}");
}

#[test]
fn axes_that_would_leave_pairs_of_text_standing_are_refused() {
    let check = |of: &[u32], want: &str| {
        let cause = refusal(sections(file("qwen35"), of));
        assert!(cause.contains(want), "{of:?}: {cause:?} does not say {want:?}");
    };
    check(&[2, 2, 2, 2], "pair 6 turns with no axis of text");
    check(&[8, 0, 0, 0], "pair 1 turns with no axis of text");
    check(&[0, 0, 0, 0], "4 numbers, no axis of which turns");
    check(&[3, 3], "2 numbers");
    let missing = refusal(file("qwen35").without_key("qwen35.rope.dimension_sections"));
    assert!(missing.contains("`qwen35.rope.dimension_sections` is missing"), "{missing}");
    // As many as the real files have, and fewer that come around again.
    for of in [&[3, 3, 2, 0][..], &[3, 3, 2], &[2, 1, 1, 0], &[11, 11, 10, 0], &[u32::MAX, 3, 2]] {
        plan(sections(file("qwen35"), of));
    }
}
