"""Tiny models of the families whose layers are all softmax attention and one gated feed-forward."""

import numpy as np
from gguf import GGMLQuantizationType as Type
from tiny import FEED_FORWARD, HEAD, N_HEADS, N_KV_HEADS, N_LAYERS, WIDE, WIDTH, Tiny


def llama() -> Tiny:
    model = Tiny("llama", seed=1)
    model.stored = WIDE
    model.plain()
    model.keys["rope.dimension_count"] = HEAD
    model.output()
    model.values("rope_freqs.weight", np.linspace(1, 8, HEAD // 2))
    return model


def llama_fused() -> Tiny:
    """Queries, keys and values in one tensor, biases wherever a llama may have them, YaRN."""
    model = Tiny("llama", seed=11)
    model.plain()
    model.keys["rope.dimension_count"] = HEAD
    model.yarn(factor=4.0, original_context=32)
    model.fuse(["attn_q.weight", "attn_k.weight", "attn_v.weight"], "attn_qkv.weight", Type.Q8_0)
    for layer in range(N_LAYERS):
        name = f"blk.{layer}."
        model.bias(name + "attn_qkv.bias", (N_HEADS + 2 * N_KV_HEADS) * HEAD)
        model.bias(name + "attn_output.bias", WIDTH)
        model.bias(name + "ffn_gate.bias", FEED_FORWARD)
        model.bias(name + "ffn_up.bias", FEED_FORWARD)
        model.bias(name + "ffn_down.bias", WIDTH)
    return model


def llama_arrays() -> Tiny:
    """Every layer of its own shape. llama.cpp reads such layers in another architecture only, which is llama's else."""
    model = Tiny("llama", seed=12)
    model.reference_architecture = "deci"
    model.keys |= {"attention.head_count": [4, 2, 4], "attention.head_count_kv": [2, 1, 4]}
    model.keys |= {"feed_forward_length": [96, 64, 128], "rope.dimension_count": HEAD}
    model.head_size(HEAD)
    model.keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
    model.embeddings()
    for layer, (heads, n_ff) in enumerate([((4, 2), 96), ((2, 1), 64), ((4, 4), 128)]):
        model.attention(layer, heads=heads)
        model.feed_forward(layer, n_ff)
    return model


def llama_longrope() -> Tiny:
    """Factors for long contexts, which its context is, and a block that guesses further tokens."""
    model = Tiny("llama", seed=13, n_layers=4)
    model.plain()
    model.keys |= {"rope.dimension_count": HEAD, "rope.scaling.type": "longrope"}
    model.keys |= {"rope.scaling.original_context_length": 128, "rope.scaling.attn_factor": 1.19}
    model.values("rope_factors_long.weight", np.linspace(1, 30, HEAD // 2))
    model.values("rope_factors_short.weight", np.linspace(1, 2, HEAD // 2))
    model.keys["nextn_predict_layers"] = 1
    model.reference_keys = {"nextn_predict_layers": None, "block_count": 3}
    model.matrix("blk.3.nextn.eh_proj.weight", WIDTH, 2 * WIDTH, Type.Q8_0)
    for name in "enorm", "hnorm", "shared_head_norm":
        model.vector(f"blk.3.nextn.{name}.weight", WIDTH)
    model.not_in_reference = {name for name in model.tensors if name.startswith("blk.3.")}
    return model


def gemma3() -> Tiny:
    model = Tiny("gemma3", seed=2)
    model.stored = WIDE
    model.plain(head=32)
    model.head_norms(32)
    model.head_size(32)
    model.keys |= {"rope.freq_base": 1e6}
    model.keys |= {"attention.sliding_window": 24, "attention.sliding_window_pattern": 2}
    model.post_norms()
    return model


def gemma3_array() -> Tiny:
    """Windows said layer by layer, full layers stretched, windows of a base of their own."""
    model = Tiny("gemma3", seed=21, n_layers=4)
    model.plain(head=32)
    model.head_norms(32)
    model.head_size(32)
    model.keys |= {"rope.freq_base": 1e6, "rope.freq_base_swa": 5e3}
    model.keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    model.keys |= {"attention.sliding_window": 16, "attention.sliding_window_pattern": [True, False, True, False]}
    model.reference_keys = {"attention.sliding_window_pattern": 2}
    model.post_norms()
    model.output()
    return model


def qwen2() -> Tiny:
    model = Tiny("qwen2", seed=3)
    model.stored = WIDE
    model.plain()
    model.keys["rope.freq_base"] = 1e6
    for layer in range(N_LAYERS):
        for which, n_heads in ("q", N_HEADS), ("k", N_KV_HEADS), ("v", N_KV_HEADS):
            model.vector(f"blk.{layer}.attn_{which}.bias", n_heads * HEAD, middle=0.0, spread=0.7)
    return model


def qwen3() -> Tiny:
    model = Tiny("qwen3", seed=4)
    model.stored = WIDE
    # Twice a head's share of the width, as most of the family's sizes have it.
    model.plain(head=32)
    model.head_norms(32)
    model.head_size(32)
    model.keys |= {"rope.freq_base": 1e6}
    return model


def mistral3() -> Tiny:
    model = Tiny("mistral3", seed=5)
    model.plain(head=32)
    model.head_size(32)
    model.keys |= {"rope.freq_base": 1e6, "rope.dimension_count": 32}
    # The temperature rises from position 16 on.
    model.yarn(factor=16.0, original_context=16)
    model.keys |= {"rope.scaling.yarn_beta_fast": 32.0, "rope.scaling.yarn_beta_slow": 1.0}
    model.keys |= {"rope.scaling.yarn_log_multiplier": 1.0, "attention.temperature_scale": 0.4}
    model.output()
    return model


def smollm3() -> Tiny:
    model = Tiny("smollm3", seed=6, n_layers=5)
    model.plain()
    model.keys |= {"rope.freq_base": 5e6, "rope.dimension_count": HEAD}
    return model


def granite() -> Tiny:
    model = Tiny("granite", seed=7)
    model.plain()
    model.keys |= {"rope.dimension_count": HEAD, "logit_scale": 8.0, "residual_scale": 0.22}
    model.keys |= {"embedding_scale": 12.0, "attention.scale": 0.0625}
    return model


def granite_turned_off() -> Tiny:
    """Nothing turns, and branches are added as they are."""
    model = Tiny("granite", seed=71)
    model.plain()
    model.keys |= {"rope.dimension_count": HEAD, "logit_scale": 4.0, "rope.scaling.finetuned": False}
    model.output()
    return model


def phi3() -> Tiny:
    """Only part of a head turns, by the factors for long contexts."""
    model = Tiny("phi3", seed=8)
    model.plain()
    model.fuse(["attn_q.weight", "attn_k.weight", "attn_v.weight"], "attn_qkv.weight", Type.Q8_0)
    model.fuse(["ffn_gate.weight", "ffn_up.weight"], "ffn_up.weight", Type.Q4_0)
    model.keys |= {"rope.dimension_count": 12, "rope.scaling.original_context_length": 128}
    model.keys["rope.scaling.attn_factor"] = 1.19
    model.values("rope_factors_long.weight", np.linspace(1, 30, 6))
    model.values("rope_factors_short.weight", np.linspace(1, 2, 6))
    model.output()
    return model


def phi3_short() -> Tiny:
    """A context that is not long: the other factors."""
    model = phi3()
    model.keys["rope.scaling.original_context_length"] = 512
    model.keys["rope.scaling.attn_factor"] = 1.0
    return model


def olmo2() -> Tiny:
    """As OLMo 3 is: windows, and YaRN on layers that have none."""
    model = olmo2_full()
    model.yarn(factor=8.0, original_context=32)
    model.keys |= {"attention.sliding_window": 16, "attention.sliding_window_pattern": [True, True, False]}
    model.reference_keys = {"attention.sliding_window_pattern": 3}
    return model


def olmo2_full() -> Tiny:
    """As OLMo 2 is."""
    model = Tiny("olmo2", seed=9)
    model.plain()
    for layer in range(N_LAYERS):
        del model.tensors[f"blk.{layer}.attn_norm.weight"], model.tensors[f"blk.{layer}.ffn_norm.weight"]
        model.vector(f"blk.{layer}.attn_q_norm.weight", N_HEADS * HEAD)
        model.vector(f"blk.{layer}.attn_k_norm.weight", N_KV_HEADS * HEAD)
    model.keys |= {"rope.freq_base": 5e5, "rope.dimension_count": HEAD}
    model.post_norms()
    model.output()
    return model


MODELS = {
    "llama": llama,
    "llama-fused": llama_fused,
    "llama-arrays": llama_arrays,
    "llama-longrope": llama_longrope,
    "gemma3": gemma3,
    "gemma3-array": gemma3_array,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "mistral3": mistral3,
    "smollm3": smollm3,
    "granite": granite,
    "granite-turned-off": granite_turned_off,
    "phi3": phi3,
    "phi3-short": phi3_short,
    "olmo2": olmo2,
    "olmo2-full": olmo2_full,
}
