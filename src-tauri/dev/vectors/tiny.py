"""Tiny models of random weights, one for each family, in the shape that files of the family have."""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import dequantize, quantize

N_VOCAB = 160
WIDTH = 64
FEED_FORWARD = 96
N_LAYERS = 3
N_HEADS = 4
N_KV_HEADS = 2


class Tiny:
    """A model in the making: `keys` below the architecture's name, and `tensors` with the types they are stored in."""

    def __init__(self, architecture: str, seed: int) -> None:
        self.architecture = architecture
        self.random = np.random.default_rng(seed)
        self.keys: dict[str, int | float | list[bool]] = {
            "block_count": N_LAYERS,
            "context_length": 512,
            "embedding_length": WIDTH,
            "feed_forward_length": FEED_FORWARD,
            "attention.head_count": N_HEADS,
            "attention.head_count_kv": N_KV_HEADS,
            "attention.layer_norm_rms_epsilon": 1e-6,
            "vocab_size": N_VOCAB,
        }
        self.tensors: dict[str, tuple[np.ndarray, Type]] = {}

    def matrix(self, name: str, n_out: int, n_in: int, stored: Type, spread: float = 0.15) -> None:
        values = (spread * self.random.standard_normal((n_out, n_in))).astype(np.float32)
        self.tensors[name] = (values, stored)

    def vector(self, name: str, n_values: int, middle: float = 1.0, spread: float = 0.2) -> None:
        values = (middle + spread * self.random.standard_normal(n_values)).astype(np.float32)
        self.tensors[name] = (values, Type.F32)

    def plain(self, head: int) -> None:
        """What all families have, with heads of `head` values; types mixed as real files mix them."""
        self.matrix("token_embd.weight", N_VOCAB, WIDTH, Type.Q8_0, spread=1.0)
        self.vector("output_norm.weight", WIDTH)
        for layer in range(N_LAYERS):
            name = f"blk.{layer}."
            self.vector(name + "attn_norm.weight", WIDTH)
            self.matrix(name + "attn_q.weight", N_HEADS * head, WIDTH, Type.F16)
            self.matrix(name + "attn_k.weight", N_KV_HEADS * head, WIDTH, Type.Q8_0)
            self.matrix(name + "attn_v.weight", N_KV_HEADS * head, WIDTH, Type.F32)
            self.matrix(name + "attn_output.weight", WIDTH, N_HEADS * head, Type.Q8_0)
            self.vector(name + "ffn_norm.weight", WIDTH)
            self.matrix(name + "ffn_gate.weight", FEED_FORWARD, WIDTH, Type.Q4_0)
            self.matrix(name + "ffn_up.weight", FEED_FORWARD, WIDTH, Type.Q4_0)
            self.matrix(name + "ffn_down.weight", WIDTH, FEED_FORWARD, Type.Q8_0)

    def head_norms(self, head: int) -> None:
        for layer in range(N_LAYERS):
            for which in "qk":
                self.vector(f"blk.{layer}.attn_{which}_norm.weight", head)

    def write(self, path: Path, expanded: bool = False) -> None:
        """Write the model; `expanded` with the same values as floats."""
        writer = GGUFWriter(path, self.architecture)
        # Numbers are all that goes in: no vocabulary is needed.
        writer.add_tokenizer_model("no_vocab")
        for key, value in self.keys.items():
            add = {float: writer.add_float32, int: writer.add_uint32, list: writer.add_array}[type(value)]
            add(f"{self.architecture}.{key}", value)
        for name, (values, stored) in self.tensors.items():
            data = quantize(values, stored)
            if expanded:
                data, stored = dequantize(data, stored).astype(np.float32), Type.F32
            writer.add_tensor(name, data, raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def llama() -> Tiny:
    model = Tiny("llama", seed=1)
    model.plain(head=16)
    model.keys["rope.dimension_count"] = 16
    model.matrix("output.weight", N_VOCAB, WIDTH, Type.Q8_0, spread=1.0)
    model.tensors["rope_freqs.weight"] = (np.linspace(1, 8, 8, dtype=np.float32), Type.F32)
    return model


def gemma3() -> Tiny:
    model = Tiny("gemma3", seed=2)
    model.plain(head=32)
    model.head_norms(32)
    model.keys |= {"attention.key_length": 32, "attention.value_length": 32, "rope.freq_base": 1e6}
    model.keys |= {"attention.sliding_window": 24, "attention.sliding_window_pattern": 2}
    for layer in range(N_LAYERS):
        model.vector(f"blk.{layer}.post_attention_norm.weight", WIDTH)
        model.vector(f"blk.{layer}.post_ffw_norm.weight", WIDTH)
    return model


def qwen2() -> Tiny:
    model = Tiny("qwen2", seed=3)
    model.plain(head=16)
    model.keys["rope.freq_base"] = 1e6
    for layer in range(N_LAYERS):
        for which, n_heads in ("q", N_HEADS), ("k", N_KV_HEADS), ("v", N_KV_HEADS):
            model.vector(f"blk.{layer}.attn_{which}.bias", n_heads * 16, middle=0.0, spread=0.7)
    return model


def qwen3() -> Tiny:
    model = Tiny("qwen3", seed=4)
    # Twice a head's share of the width, as most of the family's sizes have it.
    model.plain(head=32)
    model.head_norms(32)
    model.keys |= {"attention.key_length": 32, "attention.value_length": 32, "rope.freq_base": 1e6}
    return model


FAMILIES = [llama, gemma3, qwen2, qwen3]
