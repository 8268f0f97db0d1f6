"""Tiny models of random weights, in the shapes that files of their families have."""

from collections.abc import Callable
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
HEAD = 16

N_EXPERTS = 8
N_EXPERTS_USED = 2
EXPERT_FEED_FORWARD = 32

# How which matrices are stored: in many types, or in few bytes of as many others.
WIDE = {"table": Type.Q8_0, "q": Type.F16, "k": Type.Q8_0, "v": Type.F32, "output": Type.Q8_0, "down": Type.Q8_0}
SMALL = {"table": Type.Q5_0, "q": Type.Q4_1, "k": Type.Q8_0, "v": Type.Q5_1, "output": Type.Q8_0, "down": Type.Q4_0}

Value = int | float | bool | str | list


class Tiny:
    """A model in the making: `keys` below the architecture's name, and `tensors` with the types they are stored in.

    What llama.cpp says in other words is in `reference`: keys that its file has instead (None: not at all). Its file may
    also be of another architecture that computes the same, and have other tensors in the place of ours.
    """

    # Which of the models that a seed stands for is made.
    attempt = 0

    def __init__(self, architecture: str, seed: int, n_layers: int = N_LAYERS, width: int = WIDTH) -> None:
        self.architecture = architecture
        self.n_layers = n_layers
        self.width = width
        self.random = np.random.default_rng([seed, Tiny.attempt] if Tiny.attempt else seed)
        self.keys: dict[str, Value] = {
            "block_count": n_layers,
            "context_length": 512,
            "embedding_length": width,
            "feed_forward_length": FEED_FORWARD,
            "attention.head_count": N_HEADS,
            "attention.head_count_kv": N_KV_HEADS,
            "attention.layer_norm_rms_epsilon": 1e-6,
            "vocab_size": N_VOCAB,
        }
        self.tensors: dict[str, tuple[np.ndarray, Type]] = {}
        self.stored = SMALL
        self.reference_architecture = architecture
        self.reference_keys: dict[str, Value | None] = {}
        self.not_in_reference: set[str] = set()
        self.n_token_types = 0

    def matrix(self, name: str, n_out: int, n_in: int, stored: Type, spread: float = 0.15) -> None:
        self.stack(name, (n_out, n_in), stored, spread)

    def stack(self, name: str, shape: tuple[int, ...], stored: Type, spread: float = 0.15) -> None:
        """Matrices `[.., n_out, n_in]` in one tensor."""
        values = (spread * self.random.standard_normal(shape)).astype(np.float32)
        self.tensors[name] = (values, stored)

    def vector(self, name: str, n_values: int, middle: float = 1.0, spread: float = 0.2) -> None:
        values = (middle + spread * self.random.standard_normal(n_values)).astype(np.float32)
        self.tensors[name] = (values, Type.F32)

    def stacked(self, name: str, parts: list[np.ndarray], stored: Type) -> None:
        """Parts of matrices one below the other, in one tensor."""
        self.tensors[name] = (np.concatenate(parts, axis=-2), stored)

    def bias(self, name: str, *shape: int) -> None:
        values = (0.5 * self.random.standard_normal(shape)).astype(np.float32)
        self.tensors[name] = (values, Type.F32)

    def values(self, name: str, values: list[float] | np.ndarray) -> None:
        self.tensors[name] = (np.asarray(values, np.float32), Type.F32)

    def plain(self, head: int = HEAD) -> None:
        """What nearly all families have, with heads of `head` values; types mixed as real files mix them."""
        self.embeddings()
        for layer in range(self.n_layers):
            self.attention(layer, head)
            self.feed_forward(layer)

    def embeddings(self, norm: str = "output_norm.weight") -> None:
        self.matrix("token_embd.weight", N_VOCAB, self.width, self.stored["table"], spread=1.0)
        self.vector(norm, self.width)

    def output(self) -> None:
        self.matrix("output.weight", N_VOCAB, self.width, self.stored["table"], spread=1.0)

    def attention(self, layer: int, head: int = HEAD, heads: tuple[int, int] = (N_HEADS, N_KV_HEADS)) -> None:
        """A norm and four projections for `heads` of queries and of keys and values."""
        name = f"blk.{layer}."
        n_heads, n_kv_heads = heads
        self.vector(name + "attn_norm.weight", self.width)
        self.matrix(name + "attn_q.weight", n_heads * head, self.width, self.stored["q"])
        self.matrix(name + "attn_k.weight", n_kv_heads * head, self.width, self.stored["k"])
        self.matrix(name + "attn_v.weight", n_kv_heads * head, self.width, self.stored["v"])
        self.matrix(name + "attn_output.weight", self.width, n_heads * head, self.stored["output"])

    def feed_forward(self, layer: int, n_ff: int = FEED_FORWARD, norm: str = "ffn_norm.weight") -> None:
        name = f"blk.{layer}."
        self.vector(name + norm, self.width)
        self.gated(layer, n_ff)

    def gated(self, layer: int, n_ff: int, ending: str = "") -> None:
        """The three matrices of a gated feed-forward, or of a shared expert."""
        name = f"blk.{layer}."
        self.matrix(f"{name}ffn_gate{ending}.weight", n_ff, self.width, Type.Q4_0)
        self.matrix(f"{name}ffn_up{ending}.weight", n_ff, self.width, Type.Q4_0)
        self.matrix(f"{name}ffn_down{ending}.weight", self.width, n_ff, self.stored["down"])

    def experts(self, layer: int, spread: float = 0.3, gated: bool = True) -> None:
        """A router and its experts."""
        name = f"blk.{layer}."
        self.matrix(name + "ffn_gate_inp.weight", N_EXPERTS, self.width, Type.F32, spread)
        if gated:
            self.stack(name + "ffn_gate_exps.weight", (N_EXPERTS, EXPERT_FEED_FORWARD, self.width), Type.Q4_0)
        self.stack(name + "ffn_up_exps.weight", (N_EXPERTS, EXPERT_FEED_FORWARD, self.width), Type.Q4_0)
        self.stack(name + "ffn_down_exps.weight", (N_EXPERTS, self.width, EXPERT_FEED_FORWARD), Type.Q4_0)

    def expert_keys(self) -> None:
        self.keys |= {"expert_count": N_EXPERTS, "expert_used_count": N_EXPERTS_USED}
        self.keys["expert_feed_forward_length"] = EXPERT_FEED_FORWARD

    def head_norms(self, head: int) -> None:
        for layer in range(self.n_layers):
            for which in "qk":
                self.vector(f"blk.{layer}.attn_{which}_norm.weight", head)

    def post_norms(self) -> None:
        for layer in range(self.n_layers):
            self.vector(f"blk.{layer}.post_attention_norm.weight", self.width)
            self.vector(f"blk.{layer}.post_ffw_norm.weight", self.width)

    def head_size(self, head: int) -> None:
        self.keys |= {"attention.key_length": head, "attention.value_length": head}

    def yarn(self, factor: float, original_context: int) -> None:
        self.keys |= {"rope.scaling.type": "yarn", "rope.scaling.factor": factor}
        self.keys["rope.scaling.original_context_length"] = original_context

    def rename(self, old: str, new: str) -> None:
        """Give a tensor of every layer another name."""
        for layer in range(self.n_layers):
            name = f"blk.{layer}."
            self.tensors[name + new] = self.tensors.pop(name + old)

    def fuse(self, parts: list[str], whole: str, stored: Type) -> None:
        """Put tensors of every layer one below the other, in one."""
        for layer in range(self.n_layers):
            name = f"blk.{layer}."
            self.stacked(name + whole, [self.tensors.pop(name + part)[0] for part in parts], stored)

    def write(self, path: Path, expanded: bool = False, nudged: Callable = lambda values: values) -> None:
        """Write the model; `expanded` with the same values as floats, for the reference, or with what is `nudged`."""
        architecture = self.reference_architecture if expanded else self.architecture
        keys = self.keys | self.reference_keys if expanded else self.keys
        writer = GGUFWriter(path, architecture)
        # Numbers are all that goes in: no vocabulary is needed.
        writer.add_tokenizer_model("no_vocab")
        if self.n_token_types:
            writer.add_token_type_count(self.n_token_types)
        adders = {
            float: writer.add_float32,
            int: writer.add_uint32,
            bool: writer.add_bool,
            str: writer.add_string,
            list: writer.add_array,
        }
        for key, value in keys.items():
            if value is not None:
                adders[type(value)](f"{architecture}.{key}", value)
        for name, (values, stored) in self.tensors.items():
            if expanded and name in self.not_in_reference:
                continue
            data = quantize(values, stored)
            if expanded:
                data, stored = nudged(dequantize(data, stored)).astype(np.float32), Type.F32
            writer.add_tensor(name, data, raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
