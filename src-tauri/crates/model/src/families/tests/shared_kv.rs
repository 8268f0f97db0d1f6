//! Layers of Gemma 4 that read the keys and values of earlier ones.

use super::{attention, plan, refusal};
use crate::plan::model_plan::KvPlan;
use crate::testing::gguf_writer::GgufWriter;

/// A file of which the layers that `windows` says are windows, and the last `n_shared` have no keys and values.
fn file(windows: &[u8], n_shared: u32) -> GgufWriter {
    let bools = [&7_u32.to_le_bytes()[..], &(windows.len() as u64).to_le_bytes(), windows].concat();
    let mut file = GgufWriter::tiny("gemma4")
        .u32("gemma4.block_count", windows.len() as u32)
        .u32("gemma4.attention.sliding_window", 16)
        .raw("gemma4.attention.sliding_window_pattern", 9, &bools)
        .u32("gemma4.attention.shared_kv_layers", n_shared);
    for (what, kind) in [("key", ""), ("value", ""), ("key", "_swa"), ("value", "_swa")] {
        file = file.u32(&format!("gemma4.attention.{what}_length{kind}"), 32);
    }
    file
}

#[test]
fn the_last_full_and_the_last_windowed_layer_are_read_by_those_behind_them() {
    let plan = plan(file(&[1, 0, 1, 0], 2));
    let kv: Vec<KvPlan> = (0..4).map(|layer| attention(&plan, layer).kv).collect();
    assert_eq!(kv, [KvPlan::Own, KvPlan::Own, KvPlan::Of(0), KvPlan::Of(1)]);
}

#[test]
fn a_pattern_in_which_none_of_its_kind_is_where_a_layer_reads_is_refused() {
    assert!(refusal(file(&[0, 1, 1, 0], 2)).starts_with("layer 2 shares keys and values"));
    assert!(refusal(file(&[1, 1, 0], 1)).starts_with("layer 2 shares keys and values"));
    assert!(refusal(file(&[0, 0, 1], 2)).starts_with("layer 2 shares keys and values"));
    assert!(refusal(file(&[1, 0], 2)).contains("2 of 2 layers share keys and values"));
    assert!(refusal(file(&[1, 0], 9)).contains("9 of 2 layers share keys and values"));
}
