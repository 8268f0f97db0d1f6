//! How KV is cut into blocks: the old rule for models whose layers are all alike, and the shapes that people run.

use crate::kv_layout::LayoutError;
use crate::{
    AttentionSpan, KvDtype, KvLayout, LayerCache, LayerGroup, LayerKv, LayerSlot, LayerState, ModelCacheSpec,
    StateLayout, StatePlace, ValuePlace,
};

const DTYPES: [KvDtype; 3] = [KvDtype::F16, KvDtype::Q8, KvDtype::Q4];

fn cache(n_kv_heads: usize, dim: usize, span: AttentionSpan) -> LayerCache {
    LayerCache { n_kv_heads, k_dim: dim, v_dim: dim, v_place: ValuePlace::BesideKeys, span }
}

fn spec_of(layers: Vec<LayerKv>, max_context: usize) -> ModelCacheSpec {
    ModelCacheSpec { layers, max_context, n_vocab: 8 }
}

fn spec(spans: &[AttentionSpan]) -> ModelCacheSpec {
    spec_of(spans.iter().map(|&span| LayerKv::Own(cache(1, 256, span))).collect(), 32768)
}

fn window(tokens: usize) -> AttentionSpan {
    AttentionSpan::Window { tokens }
}

#[test]
fn layers_of_one_span_share_one_group() {
    let layout = KvLayout::new(&spec(&[AttentionSpan::Full; 30]), 32, KvDtype::F16).unwrap();
    assert_eq!(layout.groups.len(), 1);
    assert_eq!(layout.block_bytes, 30 * 32 * 2 * 256 * 2);
    assert_eq!(layout.bytes_per_token(), 30 * 2 * 256 * 2);
}

#[test]
fn window_and_full_layers_get_blocks_of_one_size() {
    let spans: Vec<_> = (0..18).map(|l| if l % 6 == 5 { AttentionSpan::Full } else { window(512) }).collect();
    let layout = KvLayout::new(&spec(&spans), 32, KvDtype::F16).unwrap();
    assert_eq!(layout.groups.len(), 6);
    let used_bytes = layout.block_bytes;
    assert_eq!(
        layout.groups[0],
        LayerGroup { span: AttentionSpan::Full, layers: vec![5, 11, 17], used_bytes }
    );
    assert!(layout.groups[1..].iter().all(|g| g.span == window(512) && g.layers.len() == 3));
    assert_eq!(layout.block_bytes * 6, 18 * 32 * 2 * 256 * 2);
}

/// Where each layer's parts are, end to end from a block's start, and never beyond it.
fn check_places(spec: &ModelCacheSpec, layout: &KvLayout) {
    let (bt, dtype) = (layout.block_tokens, layout.kv_dtype);
    for (group_idx, group) in layout.groups.iter().enumerate() {
        let mut end = 0;
        for &layer in &group.layers {
            let LayerKv::Own(cache) = spec.layers[layer] else { panic!("layer {layer} has none of its own") };
            assert_eq!(cache.span, group.span);
            let slot = layout.slots[layer].unwrap();
            assert_eq!((slot.group_idx, slot.k_offset), (group_idx, end));
            assert!(slot.k_offset.is_multiple_of(64));
            end = slot.k_offset + (cache.n_kv_heads * bt * dtype.key_bytes(cache.k_dim)).next_multiple_of(64);
            match (cache.v_place, slot.v_offset) {
                (ValuePlace::InKeys, None) => {}
                (ValuePlace::BesideKeys, Some(v_offset)) => {
                    assert_eq!(v_offset, end);
                    let v_bytes = cache.n_kv_heads * bt * dtype.value_bytes(cache.v_dim);
                    end += v_bytes.next_multiple_of(64);
                }
                other => panic!("layer {layer}: {other:?}"),
            }
        }
        assert!(group.used_bytes == end && end <= layout.block_bytes, "group {group_idx}");
    }
    let n_grouped: usize = layout.groups.iter().map(|group| group.layers.len()).sum();
    let n_own = spec.layers.iter().filter(|kv| matches!(kv, LayerKv::Own(_))).count();
    assert_eq!((n_grouped, layout.slots.len()), (n_own, spec.layers.len()));
}

#[test]
fn every_layer_lies_inside_its_block_and_overlaps_no_other() {
    let spans: Vec<_> = (0..26).map(|l| if l % 6 == 5 { AttentionSpan::Full } else { window(128) }).collect();
    for dtype in DTYPES {
        let spec = spec(&spans);
        check_places(&spec, &KvLayout::new(&spec, 16, dtype).unwrap());
    }
}

#[test]
fn nonsense_is_refused() {
    let full = spec(&[AttentionSpan::Full]);
    let refusal = |spec: &ModelCacheSpec, block_tokens| {
        KvLayout::new(spec, block_tokens, KvDtype::F16).expect_err("it is refused")
    };
    assert_eq!(refusal(&spec(&[]), 32), LayoutError::NoLayers);
    assert_eq!(refusal(&full, 24), LayoutError::BlockTokens(24));
    assert_eq!(refusal(&spec(&[window(0)]), 32), LayoutError::EmptyWindow(0));
    let own = full.layers[0];
    for (layers, layer, of) in [
        (vec![LayerKv::Of(0)], 0, 0),
        (vec![own, LayerKv::Of(2), own], 1, 2),
        (vec![own, LayerKv::Of(0), LayerKv::Of(1)], 2, 1),
        (vec![own, LayerKv::Of(9)], 1, 9),
    ] {
        assert_eq!(refusal(&spec_of(layers, 512), 32), LayoutError::NothingToShare { layer, of });
    }
    let long = LayerCache { v_dim: 300, v_place: ValuePlace::InKeys, ..cache(1, 256, AttentionSpan::Full) };
    assert_eq!(refusal(&spec_of(vec![LayerKv::Own(long)], 512), 32), LayoutError::LongValues(0));
}

/// The rule of before layers could differ in bytes: groups of one number of layers.
fn cut_by_number(spec: &ModelCacheSpec, block_tokens: usize, dtype: KvDtype) -> KvLayout {
    let cache_of = |layer: usize| match &spec.layers[layer] {
        LayerKv::Own(cache) => *cache,
        LayerKv::Of(_) | LayerKv::State(_) | LayerKv::Nothing => panic!("not of this rule's time"),
    };
    let mut spans: Vec<(AttentionSpan, Vec<usize>)> = Vec::new();
    for layer in 0..spec.layers.len() {
        let cache = cache_of(layer);
        match spans.iter_mut().find(|(span, _)| *span == cache.span) {
            Some((_, layers)) => layers.push(layer),
            None => spans.push((cache.span, vec![layer])),
        }
    }
    spans.sort_by_key(|(span, _)| span.window().unwrap_or(0));
    let smallest = spans.iter().map(|(_, layers)| layers.len()).min().unwrap_or(1);
    let n_groups = |size: usize| spans.iter().map(|(_, l)| l.len().div_ceil(size)).sum::<usize>();
    let size = (1..=smallest).min_by_key(|&size| (n_groups(size) * size, n_groups(size))).unwrap_or(1);
    let (mut groups, mut slots, mut block_bytes) = (Vec::new(), vec![None; spec.layers.len()], 0);
    for (span, layers) in &spans {
        for layers in layers.chunks(size) {
            let mut offset = 0;
            for &layer in layers {
                let cache = cache_of(layer);
                let part = |bytes: usize| (cache.n_kv_heads * block_tokens * bytes).next_multiple_of(64);
                let v_offset = offset + part(dtype.key_bytes(cache.k_dim));
                let (group_idx, k_offset) = (groups.len(), offset);
                slots[layer] = Some(LayerSlot { group_idx, k_offset, v_offset: Some(v_offset) });
                offset = v_offset + part(dtype.value_bytes(cache.v_dim));
            }
            groups.push(LayerGroup { span: *span, layers: layers.to_vec(), used_bytes: offset });
            block_bytes = block_bytes.max(offset);
        }
    }
    KvLayout { block_tokens, kv_dtype: dtype, block_bytes, groups, slots, state: StateLayout::default() }
}

#[test]
fn models_whose_layers_all_have_the_same_bytes_keep_their_old_layout_byte_for_byte() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for _ in 0..3000 {
        let (n_layers, n_kv_heads) = (1 + below(70), 1 + below(8));
        let (k_dim, v_dim) = ([16, 64, 80, 128, 256][below(5)], [16, 33, 64, 128, 256][below(5)]);
        let windows: Vec<AttentionSpan> = (0..1 + below(3)).map(|_| window(1 + below(5000))).collect();
        let (period, shift) = (1 + below(7), below(7));
        let span = |layer: usize| match (layer + shift) % period {
            0 => AttentionSpan::Full,
            nth => windows[nth % windows.len()],
        };
        let layer = |l: usize| LayerKv::Own(LayerCache { n_kv_heads, k_dim, v_dim, ..cache(1, 1, span(l)) });
        let spec = spec_of((0..n_layers).map(layer).collect(), 1 << (7 + below(12)));
        assert!(spec.is_uniform());
        let (block_tokens, dtype) = ([16, 32, 64, 256][below(4)], DTYPES[below(3)]);
        let layout = KvLayout::new(&spec, block_tokens, dtype).unwrap();
        assert_eq!(layout, cut_by_number(&spec, block_tokens, dtype), "{spec:?}");
        assert_eq!(layout.unused_share(spec.max_context), 0.0);
    }
}

#[test]
fn the_description_of_a_layout_tells_any_two_apart() {
    let two = spec(&[AttentionSpan::Full, window(64)]);
    let shared = spec_of(vec![two.layers[0], LayerKv::Of(0)], 512);
    let text = |spec: &ModelCacheSpec, dtype| KvLayout::new(spec, 16, dtype).unwrap().description();
    assert_eq!(
        text(&two, KvDtype::F16),
        "blocks of 16384 bytes; layer 0: group 0, K 0, V 8192; layer 1: group 1, K 0, V 8192"
    );
    assert_ne!(text(&two, KvDtype::F16), text(&shared, KvDtype::F16));
    assert_ne!(text(&two, KvDtype::F16), text(&two, KvDtype::Q4));
    assert!(two.is_uniform() && !shared.is_uniform());
}

/// A model that people run: its layers, as (full or window, KV heads, values of a head), and what it comes to.
struct Shape {
    name: &'static str,
    layers: Vec<LayerKv>,
    max_context: usize,
    /// Bytes of a token in the full groups' blocks, in half precision.
    full_bytes_per_token: usize,
    n_groups: usize,
}

/// `n_layers`, of which every `period`-th is full; each kind as (KV heads, values of a head).
fn pattern(
    n_layers: usize,
    (period, tokens): (usize, usize),
    windowed: (usize, usize),
    full: (usize, usize),
) -> Vec<LayerKv> {
    let layer = |l: usize| {
        let is_full = l % period == period - 1;
        let ((n_kv_heads, dim), span) =
            if is_full { (full, AttentionSpan::Full) } else { (windowed, window(tokens)) };
        LayerKv::Own(cache(n_kv_heads, dim, span))
    };
    (0..n_layers).map(layer).collect()
}

/// The same without the KV of the last `n_shared`, which read the last full and the last windowed layer before them.
fn sharing(mut layers: Vec<LayerKv>, n_shared: usize) -> Vec<LayerKv> {
    let n_own = layers.len() - n_shared;
    for layer in &mut layers[n_own..] {
        let LayerKv::Own(cache) = *layer else { panic!("all have their own at first") };
        *layer = LayerKv::Of(if cache.span == AttentionSpan::Full { n_own - 1 } else { n_own - 2 });
    }
    layers
}

fn latent(n_layers: usize) -> Vec<LayerKv> {
    let (k_dim, v_dim, v_place) = (576, 512, ValuePlace::InKeys);
    let cache = LayerCache { k_dim, v_dim, v_place, ..cache(1, 1, AttentionSpan::Full) };
    vec![LayerKv::Own(cache); n_layers]
}

fn shapes() -> Vec<Shape> {
    let plain = |n: usize, heads: usize, dim: usize| pattern(n, (1, 1), (1, 1), (heads, dim));
    let k = 1024;
    let shape = |name, layers, max_context, full_bytes_per_token, n_groups| Shape {
        name,
        layers,
        max_context,
        full_bytes_per_token,
        n_groups,
    };
    vec![
        shape("Qwen3-30B-A3B", plain(48, 4, 128), 256 * k, 96 * k, 1),
        shape("Qwen3-8B", plain(36, 8, 128), 40 * k, 144 * k, 1),
        shape("Qwen2.5-7B", plain(28, 4, 128), 32 * k, 56 * k, 1),
        shape("Llama-3.1-8B", plain(32, 8, 128), 128 * k, 128 * k, 1),
        shape("Llama-3.2-1B", plain(16, 8, 64), 128 * k, 32 * k, 1),
        shape("Llama-3.2-3B", plain(28, 8, 128), 128 * k, 112 * k, 1),
        shape("Llama-3.3-70B", plain(80, 8, 128), 128 * k, 320 * k, 1),
        shape("Ministral-3-8B", plain(34, 8, 128), 256 * k, 136 * k, 1),
        shape("Phi-4-mini", plain(32, 8, 128), 128 * k, 128 * k, 1),
        shape("SmolLM3-3B", plain(36, 4, 128), 64 * k, 72 * k, 1),
        shape("GLM-4.7-Flash", latent(47), 198 * k, 47 * 1152, 1),
        // The attention layers of families whose others have a state instead of KV.
        shape("Qwen3.5-27B", plain(16, 4, 256), 256 * k, 64 * k, 1),
        shape("Qwen3.6-35B-A3B", plain(10, 2, 256), 256 * k, 20 * k, 1),
        shape("Qwen3-Coder-Next", plain(12, 2, 256), 256 * k, 24 * k, 1),
        shape("LFM2-1.2B", plain(6, 8, 64), 125 * k, 12 * k, 1),
        shape("Nemotron-3-Nano-30B-A3B", plain(6, 2, 128), 256 * k, 6 * k, 1),
        // Windows beside full layers of the same size.
        shape("gpt-oss-20b", pattern(24, (2, 128), (8, 64), (8, 64)), 128 * k, 24 * k, 2),
        shape("OLMo-3-7B", pattern(32, (4, 4096), (32, 128), (32, 128)), 64 * k, 128 * k, 4),
        shape("gemma-3-270m", pattern(18, (6, 512), (1, 256), (1, 256)), 32 * k, 3 * k, 6),
        shape("gemma-3-1b", pattern(26, (6, 512), (1, 256), (1, 256)), 32 * k, 4 * k, 13),
        shape("gemma-3-4b", pattern(34, (6, 1024), (4, 256), (4, 256)), 128 * k, 20 * k, 34),
        shape("gemma-3-12b", pattern(48, (6, 1024), (8, 256), (8, 256)), 128 * k, 64 * k, 6),
        shape("gemma-3-27b", pattern(62, (6, 1024), (16, 128), (16, 128)), 128 * k, 80 * k, 31),
        // Windows beside full layers of another size.
        shape("gemma-4-E2B", sharing(pattern(35, (5, 512), (1, 256), (1, 512)), 20), 128 * k, 6 * k, 3),
        shape("gemma-4-E4B", sharing(pattern(42, (6, 512), (2, 256), (2, 512)), 18), 128 * k, 16 * k, 7),
        shape("gemma-4-12B", pattern(48, (6, 1024), (8, 256), (1, 512)), 256 * k, 16 * k, 21),
        shape("gemma-4-26B-A4B", pattern(30, (6, 1024), (8, 256), (2, 512)), 256 * k, 20 * k, 14),
        shape("gemma-4-31B", pattern(60, (6, 1024), (16, 256), (4, 512)), 256 * k, 80 * k, 11),
    ]
}

#[test]
fn every_model_that_people_run_leaves_at_most_a_tenth_of_its_blocks_unused() {
    for Shape { name, layers, max_context, full_bytes_per_token, n_groups } in shapes() {
        let spec = spec_of(layers, max_context);
        for dtype in DTYPES {
            let layout = KvLayout::new(&spec, 32, dtype).unwrap();
            check_places(&spec, &layout);
            let unused = layout.unused_share(max_context.min(KvLayout::LONG_CONTEXT));
            assert!((0.0..=0.1).contains(&unused), "{name}, {}: {unused}", dtype.name());
            assert_eq!(layout.groups.len(), n_groups, "{name}, {}", dtype.name());
            let n_full = layout.groups.iter().filter(|group| group.span == AttentionSpan::Full).count();
            if dtype == KvDtype::F16 {
                assert_eq!(n_full * layout.block_bytes / 32, full_bytes_per_token, "{name}");
            }
        }
    }
}

#[test]
fn layers_that_share_have_the_place_of_the_layer_that_they_read() {
    let layers = sharing(pattern(35, (5, 512), (1, 256), (1, 512)), 20);
    let layout = KvLayout::new(&spec_of(layers, 131_072), 32, KvDtype::F16).unwrap();
    for layer in 15..35 {
        let of = if layer % 5 == 4 { 14 } else { 13 };
        assert_eq!(layout.slots[layer], layout.slots[of], "layer {layer}");
    }
    assert_eq!(layout.groups[0].layers, [4, 9, 14]);
    assert_eq!(layout.bytes_per_token(), 18 * 1024);
}

#[test]
fn an_unused_share_counts_a_window_only_as_far_as_it_reaches() {
    let layout =
        KvLayout::new(&spec_of(pattern(30, (6, 1024), (8, 256), (2, 512)), 262_144), 32, KvDtype::F16);
    let layout = layout.unwrap();
    // One full group without a gap; 13 of windows, in which 40 of 260 KiB a token are.
    let share = |n_tokens: usize| (layout.unused_share(n_tokens) * 1000.0).round() / 1000.0;
    assert_eq!(share(32), 0.214);
    assert_eq!(share(32_768), 0.068);
    assert_eq!(share(262_144), 0.011);
    assert_eq!(layout.unused_share(0), 0.0);
}

/// Gated delta nets with attention in every fourth layer: heads of 128 by 128, three columns of all channels.
fn gated_delta_nets(
    n_layers: usize,
    n_k_heads: usize,
    n_v_heads: usize,
    n_kv_heads: usize,
) -> ModelCacheSpec {
    let state = LayerState {
        n_heads: n_v_heads,
        head_values: 128 * 128,
        n_columns: 3,
        column_values: 128 * (2 * n_k_heads + n_v_heads),
    };
    let layer = |layer| match layer % 4 {
        3 => LayerKv::Own(cache(n_kv_heads, 256, AttentionSpan::Full)),
        _ => LayerKv::State(state),
    };
    spec_of((0..n_layers).map(layer).collect(), 262_144)
}

/// Each unit of `spec`'s states, in order: where it is and its bytes.
fn units(spec: &ModelCacheSpec, layout: &KvLayout) -> Vec<(StatePlace, usize)> {
    let mut units = Vec::new();
    for (kv, places) in spec.layers.iter().zip(&layout.state.layers) {
        let LayerKv::State(state) = kv else {
            assert!(places.heads.is_empty() && places.columns.is_empty());
            continue;
        };
        assert_eq!((places.heads.len(), places.columns.len()), (state.n_heads, state.n_columns));
        units.extend(places.heads.iter().map(|&place| (place, state.head_bytes())));
        units.extend(places.columns.iter().map(|&place| (place, state.column_bytes())));
    }
    units
}

#[test]
fn a_state_is_cut_into_blocks_of_the_size_that_keys_and_values_have() {
    // Qwen 3.5 0.8B, 4B and 9B, 27B, and the pieces of a state.
    for ((n_layers, n_k, n_v, n_kv), n_pieces) in
        [((24, 16, 16, 2), 54), ((32, 16, 32, 4), 51), ((64, 16, 48, 4), 75)]
    {
        let spec = gated_delta_nets(n_layers, n_k, n_v, n_kv);
        for dtype in DTYPES {
            let layout = KvLayout::new(&spec, 32, dtype).unwrap();
            let of_attention = spec.layers.iter().filter(|kv| matches!(kv, LayerKv::Own(_))).copied();
            let alone = KvLayout::new(&spec_of(of_attention.collect(), 262_144), 32, dtype).unwrap();
            assert_eq!(layout.block_bytes, alone.block_bytes, "a state changes no block");
            let mut before = (0, 0);
            for (place, n_bytes) in units(&spec, &layout) {
                let start = (place.piece, place.offset);
                assert!(start >= before && place.offset + n_bytes <= layout.block_bytes, "{start:?}");
                assert!(place.offset.is_multiple_of(64));
                before = (place.piece, place.offset + n_bytes);
            }
            assert_eq!(before.0 + 1, layout.state.n_pieces);
            let used: usize = units(&spec, &layout).iter().map(|(_, n_bytes)| n_bytes).sum();
            assert_eq!(used, layout.state.used_bytes);
            assert!(layout.unused_state_share() < 0.25, "{dtype:?}: {}", layout.unused_state_share());
            if dtype == KvDtype::F16 {
                assert_eq!(layout.state.n_pieces, n_pieces);
                assert!(layout.unused_state_share() < 0.05, "{}", layout.unused_state_share());
            }
        }
    }
}

#[test]
fn a_block_is_larger_only_where_no_unit_of_a_state_would_fit_one() {
    let state = LayerState { n_heads: 2, head_values: 4096, n_columns: 0, column_values: 0 };
    let small = LayerKv::Own(cache(1, 16, AttentionSpan::Full));
    let layout = KvLayout::new(&spec_of(vec![small, LayerKv::State(state)], 512), 32, KvDtype::F16).unwrap();
    assert_eq!((layout.block_bytes, layout.state.n_pieces), (4 * 4096, 2));
    assert_eq!(layout.groups[0].used_bytes, 2 * 32 * 16 * 2);
}

#[test]
fn a_model_in_which_no_layer_attends_is_refused() {
    let state = LayerState { n_heads: 2, head_values: 64, n_columns: 1, column_values: 64 };
    for layers in [vec![LayerKv::State(state)], vec![LayerKv::Nothing, LayerKv::State(state)]] {
        let refused = KvLayout::new(&spec_of(layers, 512), 32, KvDtype::F16);
        assert_eq!(refused, Err(LayoutError::NoAttention));
    }
}

#[test]
fn two_places_of_a_state_have_two_descriptions() {
    let spec = |n_heads| {
        let state = LayerState { n_heads, head_values: 64, n_columns: 1, column_values: 64 };
        spec_of(vec![LayerKv::Own(cache(1, 64, AttentionSpan::Full)), LayerKv::State(state)], 512)
    };
    let description = |n_heads| KvLayout::new(&spec(n_heads), 32, KvDtype::F16).unwrap().description();
    assert_ne!(description(1), description(2));
    assert!(description(1).contains("layer 1: column 0 in piece 0 at 256"), "{}", description(1));
}
