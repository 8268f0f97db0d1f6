"""Writes a small model with recurrent layers: the family qwen35, random weights, the vocabulary and chat template of a
real model's file. The same arguments make the same bytes.

    python3 tests/support/recurrent_model.py --words path/to/SmolLM2.gguf target/recurrent.gguf

It says nothing sensible, but in words, and what it says depends on all that it was told: a wrong state is another answer.
Only the Python standard library is needed.
"""

import argparse
import math
import os
import random
import struct
from pathlib import Path

N_LAYERS, FULL_EVERY, WIDTH, FEED_FORWARD, CONTEXT = 4, 4, 128, 256, 8192
N_HEADS, N_KV_HEADS, HEAD, ROPE = 4, 2, 64, 32
# A delta net: heads of keys and of values, values of a head, columns of the convolution.
K_HEADS, V_HEADS, STATE, CONV = 2, 4, 32, 4

F32, Q8_0 = 0, 8
ALIGNMENT = 32
# Types of metadata: sizes of those of fixed size, and the two that are not.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
U32, F32_VALUE, I32, STRING, ARRAY = 4, 6, 5, 8, 9


class Reader:
    """A GGUF file's metadata: each value's type and its bytes as they are there."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        magic, version, _, n_values = self.take("<IIQQ")
        if (magic, version) != (0x46554747, 3):
            raise SystemExit("the file with the words is no GGUF of version 3")
        self.values: dict[str, bytes] = {}
        for _ in range(n_values):
            name = self.string().decode()
            start = self.at
            self.skip(self.take("<I")[0])
            self.values[name] = data[start : self.at]

    def take(self, layout: str) -> tuple:
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def string(self) -> bytes:
        (n,) = self.take("<Q")
        self.at += n
        return self.data[self.at - n : self.at]

    def skip(self, kind: int) -> None:
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            of, n = self.take("<IQ")
            if of in SIZES:
                self.at += n * SIZES[of]
            else:
                for _ in range(n):
                    self.skip(of)
        else:
            self.at += SIZES[kind]

    def strings(self, name: str) -> list[str]:
        reader = object.__new__(Reader)
        reader.data, reader.at = self.values[name], 8
        (n,) = reader.take("<Q")
        return [reader.string().decode() for _ in range(n)]

    def number(self, name: str) -> int:
        return struct.unpack_from("<I", self.values[name], 4)[0]


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


class Writer:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.values: list[bytes] = []
        self.tensors: list[tuple[str, tuple[int, ...], int, bytes]] = []

    def value(self, name: str, value) -> None:
        if isinstance(value, str):
            content = struct.pack("<I", STRING) + text(value)
        elif isinstance(value, float):
            content = struct.pack("<If", F32_VALUE, value)
        elif isinstance(value, list):
            content = struct.pack(f"<IIQ{len(value)}i", ARRAY, I32, len(value), *value)
        else:
            content = struct.pack("<II", U32, value)
        self.values.append(text(name) + content)

    def floats(self, name: str, shape: tuple[int, ...], values: list[float]) -> None:
        self.tensors.append((name, shape, F32, struct.pack(f"<{len(values)}f", *values)))

    def ones(self, name: str, width: int) -> None:
        self.floats(name, (width,), [1.0] * width)

    def noise(self, name: str, shape: tuple[int, ...], spread: float, middle: float = 0.0) -> None:
        self.floats(name, shape, [self.random.gauss(middle, spread) for _ in range(math.prod(shape))])

    def matrix(self, name: str, n_out: int, n_in: int, gain: float = 1.0, gains: list[float] | None = None) -> None:
        """Rows of Q8_0 whose products with a vector of ones' size are about `gain`, each times its own of `gains`."""
        # Bytes of any value spread by 74.
        scale = gain / (74 * math.sqrt(n_in))
        noise = self.random.randbytes(n_out * n_in)
        rows = []
        for row in range(n_out):
            head = struct.pack("<e", scale * (gains[row] if gains else 1.0))
            start = row * n_in
            rows.extend(head + noise[at : at + 32] for at in range(start, start + n_in, 32))
        self.tensors.append((name, (n_out, n_in), Q8_0, b"".join(rows)))

    def write(self, path: Path) -> None:
        head = [struct.pack("<IIQQ", 0x46554747, 3, len(self.tensors), len(self.values)), *self.values]
        offset = 0
        for name, shape, kind, data in self.tensors:
            dims = struct.pack(f"<{len(shape)}Q", *reversed(shape))
            head.append(text(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", kind, offset))
            offset += len(data) + -len(data) % ALIGNMENT
        start = b"".join(head)
        partial = path.with_name(path.name + ".partial")
        with open(partial, "wb") as out:
            out.write(start + bytes(-len(start) % ALIGNMENT))
            for _, _, _, data in self.tensors:
                out.write(data + bytes(-len(data) % ALIGNMENT))
        os.replace(partial, path)


def loudness(words: Reader) -> list[float]:
    """How likely the model says a token: whole words alike, the end of an answer in about one of forty, nothing else.

    Words with the space before them are read as they were written, so an answer that is sent back has its own tokens.
    """
    end = words.number("tokenizer.ggml.eos_token_id")

    def of(token: int, written: str) -> float:
        if token == end:
            return 1.7
        word = written.removeprefix("\u0120")
        return 1.0 if word != written and word.isascii() and word.isalpha() else 0.0

    return [of(*token) for token in enumerate(words.strings("tokenizer.ggml.tokens"))]


def full_attention(model: Writer, p: str) -> None:
    # A gate comes with each query.
    model.matrix(p + "attn_q.weight", 2 * N_HEADS * HEAD, WIDTH)
    model.matrix(p + "attn_k.weight", N_KV_HEADS * HEAD, WIDTH)
    model.matrix(p + "attn_v.weight", N_KV_HEADS * HEAD, WIDTH)
    model.matrix(p + "attn_output.weight", WIDTH, N_HEADS * HEAD, gain=3.0)
    for which in "qk":
        model.ones(f"{p}attn_{which}_norm.weight", HEAD)


def delta_net(model: Writer, p: str) -> None:
    k_dim, v_dim = K_HEADS * STATE, V_HEADS * STATE
    model.matrix(p + "attn_qkv.weight", 2 * k_dim + v_dim, WIDTH)
    model.matrix(p + "attn_gate.weight", v_dim, WIDTH)
    model.noise(p + "ssm_conv1d.weight", (2 * k_dim + v_dim, CONV), 0.5)
    # A step's decay is exp(a · softplus(alpha · x + bias)): from a few tokens to some hundred.
    model.noise(p + "ssm_dt.bias", (V_HEADS,), 1.0, middle=-3.0)
    model.floats(p + "ssm_a", (V_HEADS,), [-model.random.uniform(0.05, 1.0) for _ in range(V_HEADS)])
    model.noise(p + "ssm_alpha.weight", (V_HEADS, WIDTH), 0.5 / math.sqrt(WIDTH))
    model.noise(p + "ssm_beta.weight", (V_HEADS, WIDTH), 1.0 / math.sqrt(WIDTH))
    model.ones(p + "ssm_norm.weight", STATE)
    model.matrix(p + "ssm_out.weight", WIDTH, v_dim, gain=2.0)


def make(words: Reader, seed: int) -> Writer:
    model = Writer(seed)
    model.value("general.architecture", "qwen35")
    model.value("general.name", "recurrent")
    loud = loudness(words)
    for name, value in {
        "block_count": N_LAYERS,
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": N_HEADS,
        "attention.head_count_kv": N_KV_HEADS,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": 1e7,
        "rope.dimension_count": ROPE,
        "rope.dimension_sections": [6, 5, 5, 0],
        "full_attention_interval": FULL_EVERY,
        "ssm.conv_kernel": CONV,
        "ssm.state_size": STATE,
        "ssm.group_count": K_HEADS,
        "ssm.time_step_rank": V_HEADS,
        "ssm.inner_size": V_HEADS * STATE,
        "vocab_size": len(loud),
    }.items():
        model.value(f"qwen35.{name}", value)
    for name, value in words.values.items():
        if name.startswith("tokenizer."):
            model.values.append(text(name) + value)
    model.matrix("token_embd.weight", len(loud), WIDTH, gain=math.sqrt(WIDTH))
    model.matrix("output.weight", len(loud), WIDTH, gain=4.0, gains=loud)
    model.ones("output_norm.weight", WIDTH)
    for layer in range(N_LAYERS):
        p = f"blk.{layer}."
        model.ones(p + "attn_norm.weight", WIDTH)
        (full_attention if (layer + 1) % FULL_EVERY == 0 else delta_net)(model, p)
        model.ones(p + "post_attention_norm.weight", WIDTH)
        model.matrix(p + "ffn_gate.weight", FEED_FORWARD, WIDTH)
        model.matrix(p + "ffn_up.weight", FEED_FORWARD, WIDTH)
        model.matrix(p + "ffn_down.weight", WIDTH, FEED_FORWARD, gain=2.0)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", required=True, help="a GGUF file with a vocabulary and a chat template")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    # The metadata stands before the weights, and no vocabulary of these models' takes more.
    with open(args.words, "rb") as file:
        head = file.read(64 << 20)
    make(Reader(head), args.seed).write(args.output)


if __name__ == "__main__":
    main()
