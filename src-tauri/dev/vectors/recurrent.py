"""Tiny models of the families that have layers with a state: delta nets, Mamba-2, short convolutions."""

import numpy as np
from gguf import GGMLQuantizationType as Type
from tiny import EXPERT_FEED_FORWARD, FEED_FORWARD, HEAD, N_EXPERTS, N_HEADS, N_KV_HEADS, WIDTH, Tiny

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


def lfm2() -> Tiny:
    model = Tiny("lfm2", seed=54, n_layers=N_LAYERS)
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
        model.feed_forward(layer)
    return model


def mamba2(model: Tiny, layer: int) -> None:
    name, inner, n_heads, n_groups = f"blk.{layer}.", 128, 8, 2
    channels = inner + 2 * n_groups * STATE
    model.vector(name + "attn_norm.weight", WIDTH)
    model.matrix(name + "ssm_in.weight", inner + channels + n_heads, WIDTH, Type.Q8_0)
    model.matrix(name + "ssm_conv1d.weight", channels, 4, Type.F32, spread=0.4)
    model.vector(name + "ssm_conv1d.bias", channels, middle=0.0)
    model.vector(name + "ssm_dt.bias", n_heads, middle=0.0)
    decays(model, name + "ssm_a", n_heads, 1)
    model.bias(name + "ssm_d", n_heads, 1)
    model.values(name + "ssm_norm.weight", 1 + 0.2 * model.random.standard_normal((n_groups, inner // n_groups)))
    model.matrix(name + "ssm_out.weight", WIDTH, inner, Type.Q8_0)


def mamba2_keys(model: Tiny) -> None:
    model.keys |= {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": STATE}
    model.keys |= {"ssm.time_step_rank": 8, "ssm.group_count": 2}


def nemotron_h_moe() -> Tiny:
    """One block a layer: a state, attention, experts without a gate."""
    model = Tiny("nemotron_h_moe", seed=55, n_layers=N_LAYERS)
    mamba2_keys(model)
    model.expert_keys()
    model.head_size(HEAD)
    model.keys |= {"attention.head_count_kv": [0, N_KV_HEADS, 0, 0], "feed_forward_length": [0, 0, 64, 0]}
    model.keys |= {"attention.layer_norm_epsilon": 1e-5, "rope.dimension_count": HEAD, "expert_weights_norm": True}
    model.keys |= {"expert_shared_count": 1, "expert_shared_feed_forward_length": EXPERT_FEED_FORWARD}
    model.keys["expert_weights_scale"] = 2.5
    model.embeddings()
    model.output()
    for layer in range(N_LAYERS):
        if layer == 1:
            model.attention(layer)
        elif layer == 2:
            name = f"blk.{layer}."
            model.vector(name + "attn_norm.weight", WIDTH)
            model.experts(layer, spread=0.15, gated=False)
            model.vector(name + "exp_probs_b.bias", N_EXPERTS, middle=0.0)
            model.matrix(name + "ffn_up_shexp.weight", EXPERT_FEED_FORWARD, WIDTH, Type.Q4_0)
            model.matrix(name + "ffn_down_shexp.weight", WIDTH, EXPERT_FEED_FORWARD, Type.Q8_0)
        else:
            mamba2(model, layer)
    return model


def granitehybrid() -> Tiny:
    model = Tiny("granitehybrid", seed=56, n_layers=N_LAYERS)
    mamba2_keys(model)
    model.keys |= {"attention.head_count_kv": [0, 0, 0, N_KV_HEADS], "rope.dimension_count": HEAD}
    model.head_size(HEAD)
    model.keys |= {"logit_scale": 8.0, "residual_scale": 0.22, "embedding_scale": 12.0, "attention.scale": 0.0625}
    model.keys["rope.scaling.finetuned"] = False
    model.embeddings()
    for layer in range(N_LAYERS):
        if layer == 3:
            model.attention(layer)
        else:
            mamba2(model, layer)
        model.feed_forward(layer)
    return model


MODELS = {
    "qwen35": qwen35,
    "qwen35moe": qwen35moe,
    "qwen3next": qwen3next,
    "lfm2": lfm2,
    "nemotron_h_moe": nemotron_h_moe,
    "granitehybrid": granitehybrid,
}
