"""Tiny models of the families that read whole texts for their vectors."""

from gguf import GGMLQuantizationType as Type
from tiny import FEED_FORWARD, N_LAYERS, N_VOCAB, WIDE, WIDTH, Tiny

# Longer than what goes through a layer together.
N_TOKENS = 150
CONTEXT = 192


def encoder(architecture: str, seed: int, pooling: int) -> Tiny:
    model = Tiny(architecture, seed)
    model.keys |= {"context_length": CONTEXT, "attention.causal": False, "pooling_type": pooling}
    return model


def layer_norm(model: Tiny, name: str) -> None:
    model.vector(name + ".weight", WIDTH)
    model.bias(name + ".bias", WIDTH)


def post_normed(architecture: str, seed: int, pooling: int) -> Tiny:
    """A BERT without its feed-forwards: as many heads of keys as of queries, norms behind each branch."""
    model = encoder(architecture, seed, pooling)
    del model.keys["attention.head_count_kv"], model.keys["attention.layer_norm_rms_epsilon"]
    model.keys["attention.layer_norm_epsilon"] = 1e-12
    model.n_token_types = 2
    model.matrix("token_embd.weight", N_VOCAB, WIDTH, Type.Q8_0, spread=1.0)
    layer_norm(model, "token_embd_norm")
    for layer in range(N_LAYERS):
        name = f"blk.{layer}."
        model.matrix(name + "attn_q.weight", WIDTH, WIDTH, Type.F16)
        model.matrix(name + "attn_k.weight", WIDTH, WIDTH, Type.Q8_0)
        model.matrix(name + "attn_v.weight", WIDTH, WIDTH, Type.F32)
        model.matrix(name + "attn_output.weight", WIDTH, WIDTH, Type.Q8_0)
        layer_norm(model, name + "attn_output_norm")
        layer_norm(model, name + "layer_output_norm")
    return model


def learnt_positions(model: Tiny) -> None:
    model.matrix("position_embd.weight", CONTEXT, WIDTH, Type.F16, spread=0.5)
    for layer in range(N_LAYERS):
        name = f"blk.{layer}."
        model.matrix(name + "ffn_up.weight", FEED_FORWARD, WIDTH, Type.Q4_0)
        model.matrix(name + "ffn_down.weight", WIDTH, FEED_FORWARD, Type.Q8_0)


def bert() -> Tiny:
    """As MiniLM is: token types, and biases wherever they may be."""
    model = post_normed("bert", seed=81, pooling=1)
    learnt_positions(model)
    model.matrix("token_types.weight", 2, WIDTH, Type.F32, spread=0.5)
    for layer in range(N_LAYERS):
        name = f"blk.{layer}."
        for which in "attn_q", "attn_k", "attn_v", "attn_output", "ffn_down":
            model.bias(f"{name}{which}.bias", WIDTH)
        model.bias(name + "ffn_up.bias", FEED_FORWARD)
    return model


def bert_fused() -> Tiny:
    """Queries, keys and values in one tensor, and nothing that may be missing."""
    model = post_normed("bert", seed=82, pooling=2)
    learnt_positions(model)
    model.fuse(["attn_q.weight", "attn_k.weight", "attn_v.weight"], "attn_qkv.weight", Type.Q8_0)
    for layer in range(N_LAYERS):
        model.bias(f"blk.{layer}.attn_qkv.bias", 3 * WIDTH)
    return model


def nomic_bert() -> Tiny:
    model = post_normed("nomic-bert", seed=83, pooling=1)
    model.keys["rope.freq_base"] = 1000.0
    model.matrix("token_types.weight", 2, WIDTH, Type.F32, spread=0.5)
    model.fuse(["attn_q.weight", "attn_k.weight", "attn_v.weight"], "attn_qkv.weight", Type.F16)
    for layer in range(N_LAYERS):
        model.gated(layer, FEED_FORWARD)
    return model


def gemma(seed: int) -> Tiny:
    model = encoder("gemma-embedding", seed, pooling=1)
    model.stored = WIDE
    model.plain(head=32)
    model.head_norms(32)
    model.head_size(32)
    model.post_norms()
    model.keys |= {"rope.freq_base": 1e6, "attention.sliding_window": 24}
    return model


def gemma_embedding() -> Tiny:
    """A base of the windows' rotation that its file does not say, and full layers that it says by their distance."""
    model = gemma(seed=84)
    model.keys["attention.sliding_window_pattern"] = 2
    return model


def gemma_embedding_dense() -> Tiny:
    """Two products behind the pooling, windows said layer by layer and of a base of their own, full layers stretched."""
    model = gemma(seed=85)
    model.keys |= {"attention.sliding_window_pattern": [True, False, True], "rope.freq_base_swa": 5e3}
    model.keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    model.keys |= {"dense_2_feat_in": WIDTH, "dense_2_feat_out": 128, "dense_3_feat_in": 128, "dense_3_feat_out": WIDTH}
    model.matrix("dense_2.weight", 128, WIDTH, Type.Q8_0)
    model.matrix("dense_3.weight", WIDTH, 128, Type.F32)
    return model


MODELS = {
    "bert": bert,
    "bert-fused": bert_fused,
    "nomic-bert": nomic_bert,
    "gemma-embedding": gemma_embedding,
    "gemma-embedding-dense": gemma_embedding_dense,
}
