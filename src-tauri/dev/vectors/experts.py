"""Tiny models of the families that have mixtures of experts, latent attention, or layers that share."""

from gguf import GGMLQuantizationType as Type
from tiny import EXPERT_FEED_FORWARD, FEED_FORWARD, HEAD, N_EXPERTS, N_HEADS, N_KV_HEADS, N_LAYERS, N_VOCAB, WIDTH, Tiny


def of_experts(architecture: str, seed: int, head: int = HEAD) -> Tiny:
    """A plain model whose feed-forwards are all mixtures."""
    model = Tiny(architecture, seed)
    model.embeddings()
    for layer in range(N_LAYERS):
        model.attention(layer, head)
        model.vector(f"blk.{layer}.ffn_norm.weight", WIDTH)
        model.experts(layer)
    model.expert_keys()
    return model


def qwen3moe() -> Tiny:
    model = of_experts("qwen3moe", seed=31, head=32)
    model.head_norms(32)
    model.head_size(32)
    model.keys["rope.freq_base"] = 1e6
    return model


def llama_moe() -> Tiny:
    """As Mixtral is: experts of the width that a dense feed-forward has."""
    model = of_experts("llama", seed=32)
    model.keys["feed_forward_length"] = EXPERT_FEED_FORWARD
    del model.keys["expert_feed_forward_length"]
    model.keys["rope.dimension_count"] = HEAD
    model.output()
    return model


def mistral3_moe() -> Tiny:
    model = of_experts("mistral3", seed=33)
    model.keys["feed_forward_length"] = EXPERT_FEED_FORWARD
    del model.keys["expert_feed_forward_length"]
    model.keys |= {"rope.freq_base": 1e6, "rope.dimension_count": HEAD}
    model.yarn(factor=16.0, original_context=32)
    model.keys |= {"rope.scaling.yarn_log_multiplier": 1.0, "attention.temperature_scale": 0.1}
    model.output()
    return model


def gpt_oss() -> Tiny:
    """Windows on even layers, biases everywhere, sinks."""
    model = of_experts("gpt-oss", seed=34)
    model.rename("ffn_norm.weight", "post_attention_norm.weight")
    model.keys |= {"rope.freq_base": 150000.0, "rope.dimension_count": HEAD, "attention.sliding_window": 16}
    model.head_size(HEAD)
    model.yarn(factor=32.0, original_context=16)
    for layer in range(N_LAYERS):
        name = f"blk.{layer}."
        for which, n_heads in ("q", N_HEADS), ("k", N_KV_HEADS), ("v", N_KV_HEADS):
            model.bias(f"{name}attn_{which}.bias", n_heads * HEAD)
        model.bias(name + "attn_output.bias", WIDTH)
        model.vector(name + "attn_sinks.weight", N_HEADS, middle=1.0, spread=1.0)
        model.bias(name + "ffn_gate_inp.bias", N_EXPERTS)
        for which, n_out in ("gate", EXPERT_FEED_FORWARD), ("up", EXPERT_FEED_FORWARD), ("down", WIDTH):
            model.bias(f"{name}ffn_{which}_exps.bias", N_EXPERTS, n_out)
    model.output()
    return model


def latent(seed: int, n_layers: int, width: int, n_heads: int, latent: int, lora: int) -> Tiny:
    """Latent attention: `latent` values of keys that do not turn and 32 that do; queries through `lora` values, or 0."""
    model = Tiny("deepseek2", seed, n_layers, width)
    nope = rope = value = 32
    model.keys |= {"attention.head_count": n_heads, "attention.head_count_kv": 1}
    model.keys |= {"attention.key_length": latent + rope, "attention.value_length": latent}
    model.keys |= {"attention.key_length_mla": nope + rope, "attention.value_length_mla": value}
    model.keys |= {"attention.kv_lora_rank": latent, "rope.dimension_count": rope}
    if lora:
        model.keys["attention.q_lora_rank"] = lora
    model.embeddings()
    model.output()
    for layer in range(n_layers):
        name = f"blk.{layer}."
        model.vector(name + "attn_norm.weight", width)
        if lora:
            model.matrix(name + "attn_q_a.weight", lora, width, Type.Q5_0)
            model.vector(name + "attn_q_a_norm.weight", lora)
            model.matrix(name + "attn_q_b.weight", n_heads * (nope + rope), lora, Type.Q4_1)
        else:
            model.matrix(name + "attn_q.weight", n_heads * (nope + rope), width, Type.Q4_0)
        model.matrix(name + "attn_kv_a_mqa.weight", latent + rope, width, Type.Q5_0)
        model.vector(name + "attn_kv_a_norm.weight", latent)
        model.stack(name + "attn_k_b.weight", (n_heads, latent, nope), Type.Q5_1)
        model.stack(name + "attn_v_b.weight", (n_heads, value, latent), Type.Q4_0)
        model.matrix(name + "attn_output.weight", width, n_heads * value, Type.Q4_0)
        model.vector(name + "ffn_norm.weight", width)
    return model


def latent_experts(model: Tiny, n_dense: int, n_ff: int, is_sigmoid: bool) -> None:
    """`n_dense` leading layers with a feed-forward of `n_ff`; mixtures with one shared expert after them."""
    model.expert_keys()
    model.keys |= {"leading_dense_block_count": n_dense, "feed_forward_length": n_ff, "expert_shared_count": 1}
    model.keys["expert_gating_func"] = 2 if is_sigmoid else 1
    for layer in range(model.n_layers):
        if layer < n_dense:
            model.gated(layer, n_ff)
            continue
        model.experts(layer, spread=0.15 if is_sigmoid else 0.3)
        model.gated(layer, EXPERT_FEED_FORWARD, "_shexp")
        if is_sigmoid:
            model.vector(f"blk.{layer}.exp_probs_b.bias", N_EXPERTS, middle=0.0)


def deepseek2() -> Tiny:
    """As GLM 4.7 Flash is."""
    model = latent(seed=35, n_layers=3, width=WIDTH, n_heads=4, latent=64, lora=32)
    latent_experts(model, n_dense=1, n_ff=FEED_FORWARD, is_sigmoid=True)
    model.keys |= {"expert_weights_scale": 1.8, "expert_weights_norm": True, "rope.freq_base": 1e6}
    return model


def deepseek2_groups() -> Tiny:
    """As DeepSeek V3 is: experts in groups, YaRN that widens the scores."""
    model = latent(seed=36, n_layers=2, width=WIDTH, n_heads=4, latent=64, lora=32)
    latent_experts(model, n_dense=1, n_ff=FEED_FORWARD, is_sigmoid=True)
    model.keys |= {"expert_weights_scale": 2.5, "expert_weights_norm": True}
    model.keys |= {"expert_group_count": 2, "expert_group_used_count": 1}
    model.yarn(factor=16.0, original_context=32)
    model.keys["rope.scaling.yarn_log_multiplier"] = 0.1
    return model


def deepseek2_dense() -> Tiny:
    """Without a mixture in any layer."""
    model = latent(seed=37, n_layers=2, width=WIDTH, n_heads=4, latent=64, lora=32)
    latent_experts(model, n_dense=2, n_ff=FEED_FORWARD, is_sigmoid=False)
    model.yarn(factor=8.0, original_context=64)
    model.keys["rope.scaling.yarn_log_multiplier"] = 0.0707
    return model


def deepseek2_lite() -> Tiny:
    """As DeepSeek V2 Lite is, by whose number of layers the reference knows that queries have one matrix."""
    model = latent(seed=38, n_layers=27, width=32, n_heads=2, latent=32, lora=0)
    latent_experts(model, n_dense=25, n_ff=32, is_sigmoid=False)
    model.yarn(factor=8.0, original_context=64)
    model.keys |= {"rope.scaling.yarn_log_multiplier": 0.0707, "expert_weights_scale": 1.0}
    return model


def gemma4_layers(seed: int, n_kv_heads: list[int], n_own: int, n_ff: list[int], k_as_v: bool) -> Tiny:
    """Two windows to one full layer; the first `n_own` layers have keys and values."""
    windows = [layer % 3 < 2 for layer in range(len(n_kv_heads))]
    model = Tiny("gemma4", seed, n_layers=len(windows))
    model.head_size(32)
    model.keys |= {"attention.key_length_swa": 16, "attention.value_length_swa": 16}
    model.keys |= {"rope.dimension_count": 32, "rope.dimension_count_swa": 16}
    model.keys |= {"rope.freq_base": 1e6, "rope.freq_base_swa": 10000.0, "final_logit_softcapping": 30.0}
    model.keys |= {"attention.sliding_window": 16, "attention.sliding_window_pattern": windows}
    model.keys |= {"attention.shared_kv_layers": len(windows) - n_own, "embedding_length_per_layer_input": 0}
    model.keys |= {"attention.head_count_kv": n_kv_heads, "feed_forward_length": n_ff}
    model.embeddings()
    model.values("rope_freqs.weight", [1.0] * 4 + [1e30] * 12)
    for layer, is_window in enumerate(windows):
        name, head = f"blk.{layer}.", 16 if is_window else 32
        model.attention(layer, head, (N_HEADS, n_kv_heads[layer]))
        model.feed_forward(layer, n_ff[layer])
        for which in "qk":
            model.vector(f"{name}attn_{which}_norm.weight", head)
        if layer >= n_own:
            for tensor in "attn_k.weight", "attn_v.weight", "attn_k_norm.weight":
                del model.tensors[name + tensor]
        elif k_as_v and not is_window:
            del model.tensors[name + "attn_v.weight"]
        model.values(name + "layer_output_scale.weight", [0.9 - 0.05 * layer])
    model.post_norms()
    return model


def gemma4() -> Tiny:
    """As E2B and E4B are: embeddings for each layer, later layers that read the cache of earlier ones."""
    model = gemma4_layers(41, [2] * 6, n_own=3, n_ff=[96, 96, 96, 128, 128, 128], k_as_v=False)
    n_values = 32
    model.keys["embedding_length_per_layer_input"] = n_values
    model.matrix("per_layer_token_embd.weight", N_VOCAB, n_values * model.n_layers, Type.Q8_0, spread=1.0)
    model.matrix("per_layer_model_proj.weight", n_values * model.n_layers, WIDTH, Type.Q8_0)
    model.vector("per_layer_proj_norm.weight", n_values)
    for layer in range(model.n_layers):
        name = f"blk.{layer}."
        model.matrix(name + "inp_gate.weight", n_values, WIDTH, Type.F16)
        model.matrix(name + "proj.weight", WIDTH, n_values, Type.Q8_0)
        model.vector(name + "post_norm.weight", WIDTH)
    return model


def gemma4_dense() -> Tiny:
    """As 12B and 31B are: keys of full layers are values too."""
    return gemma4_layers(42, [2, 2, 1, 2], n_own=4, n_ff=[96] * 4, k_as_v=True)


def gemma4moe() -> Tiny:
    """As 26B-A4B is: a mixture beside each feed-forward."""
    model = gemma4_layers(43, [2, 2, 1], n_own=3, n_ff=[64] * 3, k_as_v=True)
    model.expert_keys()
    for layer in range(model.n_layers):
        name = f"blk.{layer}."
        model.experts(layer)
        for norm in "pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2":
            model.vector(f"{name}{norm}.weight", WIDTH)
        model.vector(name + "ffn_gate_inp.scale", WIDTH)
        model.vector(name + "ffn_down_exps.scale", N_EXPERTS)
        # The gate's rows come first.
        gate, up = (model.tensors.pop(f"{name}ffn_{part}_exps.weight")[0] for part in ("gate", "up"))
        model.stacked(name + "ffn_gate_up_exps.weight", [gate, up], Type.Q4_0)
    return model


MODELS = {
    "qwen3moe": qwen3moe,
    "llama-moe": llama_moe,
    "mistral3-moe": mistral3_moe,
    "gpt-oss": gpt_oss,
    "deepseek2": deepseek2,
    "deepseek2-groups": deepseek2_groups,
    "deepseek2-dense": deepseek2_dense,
    "deepseek2-lite": deepseek2_lite,
    "gemma4": gemma4,
    "gemma4-dense": gemma4_dense,
    "gemma4moe": gemma4moe,
}
