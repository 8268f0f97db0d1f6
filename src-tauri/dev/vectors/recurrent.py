"""Tiny models of the families that have layers with a state: delta nets, Mamba-2, short convolutions."""

from collections.abc import Callable

import numpy as np
from gguf import GGMLQuantizationType as Type
from tiny import EXPERT_FEED_FORWARD, FEED_FORWARD, HEAD, N_EXPERTS, N_EXPERTS_USED, N_HEADS, N_KV_HEADS, WIDTH, Tiny

N_LAYERS = 4
STATE = 16


def decays(model: Tiny, name: str, *shape: int) -> None:
    model.values(name, -np.abs(model.random.standard_normal(shape)) - 0.1)


def gated_attention(model: Tiny, layer: int) -> None:
    """Full attention whose queries come with a gate each."""
    name = f"blk.{layer}."
    model.attention(layer)
    model.matrix(name + "attn_q.weight", 2 * N_HEADS * HEAD, WIDTH, Type.Q4_1)
    for which in "qk":
        model.vector(f"{name}attn_{which}_norm.weight", HEAD)


def delta_net(model: Tiny, layer: int, beta_with_alpha: bool) -> None:
    name, (n_k_heads, n_v_heads) = f"blk.{layer}.", (2, 4)
    k_dim, v_dim = n_k_heads * STATE, n_v_heads * STATE
    model.vector(name + "attn_norm.weight", WIDTH)
    model.matrix(name + "attn_qkv.weight", 2 * k_dim + v_dim, WIDTH, Type.Q8_0)
    model.matrix(name + "attn_gate.weight", v_dim, WIDTH, Type.Q5_0)
    model.matrix(name + "ssm_conv1d.weight", 2 * k_dim + v_dim, 4, Type.F32, spread=0.4)
    model.vector(name + "ssm_dt.bias", n_v_heads, middle=0.0)
    decays(model, name + "ssm_a", n_v_heads)
    if beta_with_alpha:
        model.matrix(name + "ssm_ba.weight", 2 * n_v_heads, WIDTH, Type.F32)
    else:
        model.matrix(name + "ssm_beta.weight", n_v_heads, WIDTH, Type.F32)
        model.matrix(name + "ssm_alpha.weight", n_v_heads, WIDTH, Type.F32)
    model.vector(name + "ssm_norm.weight", STATE)
    model.matrix(name + "ssm_out.weight", WIDTH, v_dim, Type.Q8_0)


def delta_nets(architecture: str, seed: int, n_layers: int, has_experts: bool) -> Tiny:
    """Three delta nets to one full attention; a block that guesses further tokens is one."""
    model = Tiny(architecture, seed, n_layers)
    model.keys |= {"rope.freq_base": 1e7, "full_attention_interval": 4}
    model.head_size(HEAD)
    model.keys |= {"ssm.conv_kernel": 4, "ssm.state_size": STATE, "ssm.group_count": 2}
    model.keys |= {"ssm.time_step_rank": 4, "ssm.inner_size": 4 * STATE}
    if has_experts:
        model.expert_keys()
        model.keys["expert_shared_feed_forward_length"] = EXPERT_FEED_FORWARD
    model.embeddings()
    for layer in range(n_layers):
        name = f"blk.{layer}."
        if layer >= N_LAYERS or (layer + 1) % 4 == 0:
            gated_attention(model, layer)
        else:
            delta_net(model, layer, beta_with_alpha=architecture == "qwen3next")
        model.vector(name + "post_attention_norm.weight", WIDTH)
        if has_experts:
            model.experts(layer)
            model.gated(layer, EXPERT_FEED_FORWARD, "_shexp")
            model.vector(name + "ffn_gate_inp_shexp.weight", WIDTH, middle=0.0)
        else:
            model.gated(layer, FEED_FORWARD)
    return model


def qwen35() -> Tiny:
    return qwen35_of("qwen35", seed=51, has_experts=False)


def qwen35moe() -> Tiny:
    return qwen35_of("qwen35moe", seed=52, has_experts=True)


def qwen35_of(architecture: str, seed: int, has_experts: bool) -> Tiny:
    model = delta_nets(architecture, seed, N_LAYERS + 1, has_experts)
    model.keys |= {"rope.dimension_count": 8, "rope.dimension_sections": [2, 1, 1, 0], "nextn_predict_layers": 1}
    name = f"blk.{N_LAYERS}.nextn."
    model.matrix(name + "eh_proj.weight", WIDTH, 2 * WIDTH, Type.Q8_0)
    for norm in "enorm", "hnorm", "shared_head_norm":
        model.vector(f"{name}{norm}.weight", WIDTH)
    return model


def qwen3next() -> Tiny:
    model = delta_nets("qwen3next", seed=53, n_layers=N_LAYERS, has_experts=True)
    model.keys["rope.dimension_count"] = 4
    return model


def short_convolutions(architecture: str, seed: int, feed_forward: Callable[[Tiny, int], None]) -> Tiny:
    """One attention among short convolutions."""
    model = Tiny(architecture, seed, n_layers=N_LAYERS)
    model.keys |= {"attention.head_count_kv": [0, 0, N_KV_HEADS, 0], "shortconv.l_cache": 3, "rope.freq_base": 1e6}
    model.embeddings(norm="token_embd_norm.weight")
    for layer in range(N_LAYERS):
        name = f"blk.{layer}."
        if layer == 2:
            model.attention(layer)
            for which in "qk":
                model.vector(f"{name}attn_{which}_norm.weight", HEAD)
        else:
            model.vector(name + "attn_norm.weight", WIDTH)
            model.matrix(name + "shortconv.conv.weight", WIDTH, 3, Type.F32, spread=0.4)
            model.matrix(name + "shortconv.in_proj.weight", 3 * WIDTH, WIDTH, Type.Q8_0)
            model.matrix(name + "shortconv.out_proj.weight", WIDTH, WIDTH, Type.Q5_0)
        feed_forward(model, layer)
    return model


def lfm2() -> Tiny:
    return short_convolutions("lfm2", 54, Tiny.feed_forward)


def lfm2_window() -> Tiny:
    """Its attention looks through a window."""
    model = short_convolutions("lfm2", 57, Tiny.feed_forward)
    model.keys["attention.sliding_window"] = 16
    return model


def lfm2moe() -> Tiny:
    """Experts behind a dense layer."""

    def feed_forward(model: Tiny, layer: int) -> None:
        if layer == 0:
            model.feed_forward(layer)
        else:
            model.vector(f"blk.{layer}.ffn_norm.weight", WIDTH)
            model.experts(layer)
            model.vector(f"blk.{layer}.exp_probs_b.bias", N_EXPERTS, middle=0.0)

    model = short_convolutions("lfm2moe", 58, feed_forward)
    model.expert_keys()
    model.keys |= {"leading_dense_block_count": 1, "expert_gating_func": 2}
    return model


INNER = 2 * WIDTH
N_STATES = 8


def mamba2(model: Tiny, layer: int, n_groups: int = 2) -> None:
    name, channels = f"blk.{layer}.", INNER + 2 * n_groups * STATE
    model.vector(name + "attn_norm.weight", WIDTH)
    model.matrix(name + "ssm_in.weight", INNER + channels + N_STATES, WIDTH, Type.Q8_0)
    model.matrix(name + "ssm_conv1d.weight", channels, 4, Type.F32, spread=0.4)
    model.vector(name + "ssm_conv1d.bias", channels, middle=0.0)
    model.vector(name + "ssm_dt.bias", N_STATES, middle=0.0)
    decays(model, name + "ssm_a", N_STATES, 1)
    model.bias(name + "ssm_d", N_STATES, 1)
    model.values(name + "ssm_norm.weight", 1 + 0.2 * model.random.standard_normal((n_groups, INNER // n_groups)))
    model.matrix(name + "ssm_out.weight", WIDTH, INNER, Type.Q8_0)


def mamba2_keys(model: Tiny, n_groups: int = 2) -> None:
    model.keys |= {"ssm.conv_kernel": 4, "ssm.inner_size": INNER, "ssm.state_size": STATE}
    model.keys |= {"ssm.time_step_rank": N_STATES, "ssm.group_count": n_groups}


def one_block_layers(
    architecture: str, seed: int, feed_forward: Callable[[Tiny, int], None], n_groups: int = 2, n_ff: int = 64
) -> Tiny:
    """A state, attention, a feed-forward, a state: each a layer."""
    model = Tiny(architecture, seed, n_layers=N_LAYERS)
    mamba2_keys(model, n_groups)
    model.head_size(HEAD)
    model.keys |= {"attention.head_count_kv": [0, N_KV_HEADS, 0, 0], "feed_forward_length": [0, 0, n_ff, 0]}
    model.keys |= {"attention.layer_norm_epsilon": 1e-5, "rope.dimension_count": HEAD}
    model.embeddings()
    model.output()
    for layer in range(N_LAYERS):
        if layer == 1:
            model.attention(layer)
        elif layer == 2:
            model.vector(f"blk.{layer}.attn_norm.weight", WIDTH)
            feed_forward(model, layer)
        else:
            mamba2(model, layer, n_groups)
    return model


def nemotron_h() -> Tiny:
    """A feed-forward without a gate, and with biases; all heads of a state in one group."""

    def feed_forward(model: Tiny, layer: int) -> None:
        name = f"blk.{layer}."
        model.matrix(name + "ffn_up.weight", FEED_FORWARD, WIDTH, Type.Q4_0)
        model.matrix(name + "ffn_down.weight", WIDTH, FEED_FORWARD, Type.Q8_0)
        model.bias(name + "ffn_up.bias", FEED_FORWARD)
        model.bias(name + "ffn_down.bias", WIDTH)
        model.bias("blk.1.attn_output.bias", WIDTH)

    return one_block_layers("nemotron_h", 59, feed_forward, n_groups=1, n_ff=FEED_FORWARD)


def shared_without_gate(model: Tiny, layer: int) -> None:
    name = f"blk.{layer}."
    model.vector(name + "exp_probs_b.bias", N_EXPERTS, middle=0.0)
    model.matrix(name + "ffn_up_shexp.weight", EXPERT_FEED_FORWARD, WIDTH, Type.Q4_0)
    model.matrix(name + "ffn_down_shexp.weight", WIDTH, EXPERT_FEED_FORWARD, Type.Q8_0)


def nemotron_experts(model: Tiny) -> Tiny:
    model.expert_keys()
    model.keys |= {"expert_weights_norm": True, "expert_weights_scale": 2.5, "expert_group_count": 1}
    model.keys |= {"expert_shared_count": 1, "expert_shared_feed_forward_length": EXPERT_FEED_FORWARD}
    return model


def nemotron_h_moe() -> Tiny:
    """Experts without a gate."""

    def feed_forward(model: Tiny, layer: int) -> None:
        model.experts(layer, spread=0.15, gated=False)
        shared_without_gate(model, layer)

    return nemotron_experts(one_block_layers("nemotron_h_moe", 55, feed_forward))


def nemotron_h_moe_latent() -> Tiny:
    """Experts of a narrower width than the model's."""

    def feed_forward(model: Tiny, layer: int) -> None:
        name, latent, n_ff = f"blk.{layer}.", WIDTH // 2, EXPERT_FEED_FORWARD
        model.matrix(name + "ffn_gate_inp.weight", N_EXPERTS, WIDTH, Type.F32)
        model.matrix(name + "ffn_latent_down.weight", latent, WIDTH, Type.Q8_0)
        model.matrix(name + "ffn_latent_up.weight", WIDTH, latent, Type.Q8_0)
        model.stack(name + "ffn_up_exps.weight", (N_EXPERTS, n_ff, latent), Type.Q4_0)
        model.stack(name + "ffn_down_exps.weight", (N_EXPERTS, latent, n_ff), Type.Q4_0)
        shared_without_gate(model, layer)

    model = nemotron_experts(one_block_layers("nemotron_h_moe", 60, feed_forward))
    model.keys["moe_latent_size"] = WIDTH // 2
    return model


def granite_scales(model: Tiny) -> None:
    model.keys |= {"logit_scale": 8.0, "residual_scale": 0.22, "embedding_scale": 12.0, "attention.scale": 0.0625}


def granitehybrid() -> Tiny:
    model = Tiny("granitehybrid", seed=56, n_layers=N_LAYERS)
    mamba2_keys(model)
    model.keys |= {"attention.head_count_kv": [0, 0, 0, N_KV_HEADS], "rope.dimension_count": HEAD}
    model.head_size(HEAD)
    granite_scales(model)
    model.keys["rope.scaling.finetuned"] = False
    model.embeddings()
    for layer in range(N_LAYERS):
        if layer == 3:
            model.attention(layer)
        else:
            mamba2(model, layer)
        model.feed_forward(layer)
    return model


def granitehybrid_moe() -> Tiny:
    """Experts beside a shared one, attention that turns, all heads of a state in one group."""
    model = Tiny("granitehybrid", seed=61, n_layers=N_LAYERS)
    mamba2_keys(model, n_groups=1)
    model.keys |= {"attention.head_count_kv": [0, N_KV_HEADS, 0, 0], "rope.dimension_count": HEAD}
    model.head_size(HEAD)
    granite_scales(model)
    model.keys |= {"rope.scaling.finetuned": True, "feed_forward_length": EXPERT_FEED_FORWARD}
    model.keys |= {"expert_count": N_EXPERTS, "expert_used_count": N_EXPERTS_USED}
    model.keys["expert_shared_feed_forward_length"] = FEED_FORWARD
    model.embeddings()
    for layer in range(N_LAYERS):
        if layer == 1:
            model.attention(layer)
        else:
            mamba2(model, layer, n_groups=1)
        model.vector(f"blk.{layer}.ffn_norm.weight", WIDTH)
        model.experts(layer)
        model.gated(layer, FEED_FORWARD, "_shexp")
    return model


MODELS = {
    "qwen35": qwen35,
    "qwen35moe": qwen35moe,
    "qwen3next": qwen3next,
    "lfm2": lfm2,
    "lfm2-window": lfm2_window,
    "lfm2moe": lfm2moe,
    "nemotron_h": nemotron_h,
    "nemotron_h_moe": nemotron_h_moe,
    "nemotron_h_moe-latent": nemotron_h_moe_latent,
    "granitehybrid": granitehybrid,
    "granitehybrid-moe": granitehybrid_moe,
}
