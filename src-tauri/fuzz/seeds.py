"""Writes what the fuzz targets begin with: python3 seeds.py FOLDER makes FOLDER/<target>/<name>."""

import json
import struct
import sys
from pathlib import Path

FORMAT = Path(__file__).parent.parent / "crates/store/tests/format-2"


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def f32(value: float) -> bytes:
    return struct.pack("<f", value)


SMALL_KEYS = [
    key("general.architecture", 8, text("llama")),
    key("general.alignment", 4, u32(32)),
    key("llama.context_length", 4, u32(64)),
    key("llama.embedding_length", 4, u32(32)),
    key("llama.block_count", 4, u32(1)),
    key("llama.feed_forward_length", 4, u32(32)),
    key("llama.attention.head_count", 4, u32(1)),
    key("llama.attention.head_count_kv", 4, u32(1)),
    key("llama.attention.layer_norm_rms_epsilon", 6, f32(1e-5)),
    key("llama.rope.freq_base", 6, f32(1e4)),
    key("llama.rope.dimension_count", 4, u32(32)),
    key("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text("a") + text("b")),
    key("tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, 2) + f32(0) + f32(-1)),
]
SMALL_MATRICES = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
SMALL_SHAPES = (
    {"token_embd.weight": [32, 2], "output_norm.weight": [32]}
    | {f"blk.0.{name}.weight": [32, 32] for name in SMALL_MATRICES}
    | {f"blk.0.{name}.weight": [32] for name in ["attn_norm", "ffn_norm"]}
)


def small_model() -> bytes:
    """A llama of one layer in one file."""
    return written(SMALL_KEYS, SMALL_SHAPES)


def small_parts(*sizes: int) -> list[bytes]:
    """The same in several files, with so many tensors each."""
    names, parts = list(SMALL_SHAPES), []
    for number, size in enumerate(sizes):
        split = [
            key("split.no", 2, struct.pack("<H", number)),
            key("split.count", 2, struct.pack("<H", len(sizes))),
            key("split.tensors.count", 5, struct.pack("<i", len(SMALL_SHAPES))),
        ]
        taken, names = names[:size], names[size:]
        parts.append(written([*(SMALL_KEYS if number == 0 else []), *split], {n: SMALL_SHAPES[n] for n in taken}))
    assert not names
    return parts


def together(parts: list[bytes]) -> bytes:
    """Several files in one input."""
    *before, last = parts
    return bytes([len(before) - 1]) + b"".join(struct.pack("<H", len(part)) + part for part in before) + last


def written(keys: list[bytes], shapes: dict[str, list[int]]) -> bytes:
    """A file's header, with the data of its tensors."""
    tensors, offset = b"", 0
    for name, shape in shapes.items():
        tensors += text(name) + u32(len(shape)) + b"".join(struct.pack("<Q", n) for n in shape)
        # Vectors as F32, matrices as Q8_0: 34 bytes for 32 values. All seeds are to be shorter than what is fuzzed.
        kind, size = (0, 4 * shape[0]) if len(shape) == 1 else (8, 34 * shape[0] // 32 * shape[1])
        tensors += u32(kind) + struct.pack("<Q", offset)
        offset += -(-size // 32) * 32
    head = b"GGUF" + u32(3) + struct.pack("<QQ", len(shapes), len(keys)) + b"".join(keys) + tensors
    return head + bytes(-len(head) % 32) + bytes(offset)


SCHEMAS = Path(__file__).parent.parent / "crates/text/tests/data/schemas.jsonl"
HOSTILE_SCHEMAS = [
    {"$defs": {f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(50)}, "$ref": "#/$defs/a0"},
    {"type": "integer", "multipleOf": 99999989},
    {"allOf": [{"anyOf": [{"minimum": i}, {"maximum": -i}]} for i in range(5)]},
    {"type": "string", "pattern": "^(a|b)*a(a|b){20}$", "minLength": 3},
    {"enum": [9007199254740993, 0.1, "x", None, [1], {"a": 2}]},
    {"type": "object", "patternProperties": {"^a": {}, "b$": {}}, "minProperties": 2},
    {"type": "array", "prefixItems": [{"type": "null"}], "items": False, "maxItems": 9},
]
TEMPLATES = [
    "{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}{% endfor %}{% if add_generation_prompt %}<|a|>{% endif %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(9) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
    "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}",
    "{{ '%s and %d' % ('a', 3) }}{{ '{:>9}'.format(1) }}{{ 'a-b'.rsplit('-', 1) }}{{ x | default('y', boolean=true) }}",
    "{% if 0 %}{% elif not not - 1 ~ 2 ** 3 %}{{ raise_exception('no') }}{% else %}{{ bos_token }}{% endif %}",
    "{{ messages | map(attribute='role') | join(',') | upper | replace('U', 'u') }}{{ strftime_now('%Y') }}",
]

VOCABULARIES = {
    "gpt2": ["kgpt2", "pllama-bpe", "fB", *(f"t1{c}" for c in "ab'sĠ1"), "t1ab", "t1Ġa", "t3<s>", "ma b", "mĠ a", "xab ab's 11<s>"],
    "digits": ["kgpt2", "ptiny_aya", *(f"t1{c}" for c in "12Ġ"), "t112", "m1 2", "x12112 121"],
    "gemma4": ["kgemma4", "t3<bos>", *(f"t1{c}" for c in "ab▁"), "t1▁a", "t1\\n\\n", "t6<0xC3>", "t6<0xA9>", "m▁ a", "x a\\n\\né ab"],
    "llama": ["kllama", "fBp0", "t2<unk>", "t3<s>", "t3</s>", *(f"t1{c}" for c in "ab▁"), "t1▁a", "t4<x>", "xa <x>ab"],
    "bert": ["kbert", "fl1", "t3[PAD]", "t3[UNK]", "t3[CLS]", "t1▁a", "t1b", "t1▁!", "xAB a!é cb"],
}


def schemas() -> dict[str, bytes]:
    lines = [json.loads(line)["schema"] for line in SCHEMAS.read_text().splitlines()]
    return {str(i): json.dumps(schema).encode() for i, schema in enumerate(lines + HOSTILE_SCHEMAS)}


def main() -> None:
    segment = next(FORMAT.glob("*.kv")).read_bytes()
    manifest = next(FORMAT.glob("*.agent")).read_bytes()
    halves = struct.pack("<H", len(segment)) + segment
    seeds = {
        # The first byte says what is put right before the store reads the rest.
        "segment": {
            "as-it-is": b"\x00" + segment,
            "mended": b"\x04" + segment,
            "two": b"\x0d" + halves + segment,
            "two-mended-once": b"\x09" + halves + segment,
        },
        "manifest": {"as-it-is": b"\x00" + manifest, "mended": b"\x01" + manifest},
        "gguf": {
            "small": small_model(),
            "two": together(small_parts(0, 11)),
            "three": together(small_parts(2, 6, 3)),
            "five": together(small_parts(2, 3, 2, 2, 2)),
            "doubled": together([small_parts(2, 6, 3)[i] for i in (0, 1, 1)]),
        },
        "schema": schemas(),
        "vocabulary": {name: "\n".join(lines).encode() for name, lines in VOCABULARIES.items()},
        "template": {str(i): template.encode() for i, template in enumerate(TEMPLATES)},
    }
    for target, files in seeds.items():
        folder = Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)


main()
