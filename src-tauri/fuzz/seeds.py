"""Writes what the fuzz targets begin with: python3 seeds.py FOLDER makes FOLDER/<target>/<name>."""

import json
import struct
import sys
from pathlib import Path

FORMAT = Path(__file__).parent.parent / "crates/store/tests/format-2"
STATES = Path(__file__).parent.parent / "crates/store/tests/format-2-states"


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
    "{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}{% for m in messages %}{{ m.reasoning_content }}{% for c in "
    "m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | items | list }}{% endfor %}{{ m.content }}{% endfor %}",
    "{{ messages | map(attribute='role') | join(',') | upper | replace('U', 'u') }}{{ strftime_now('%Y') }}",
]

VOCABULARIES = {
    "gpt2": ["kgpt2", "pllama-bpe", "fB", *(f"t1{c}" for c in "ab'sĠ1"), "t1ab", "t1Ġa", "t3<s>", "ma b", "mĠ a", "xab ab's 11<s>"],
    "digits": ["kgpt2", "ptiny_aya", *(f"t1{c}" for c in "12Ġ"), "t112", "m1 2", "x12112 121"],
    "gemma4": ["kgemma4", "t3<bos>", *(f"t1{c}" for c in "ab▁"), "t1▁a", "t1\\n\\n", "t6<0xC3>", "t6<0xA9>", "m▁ a", "x a\\n\\né ab"],
    "llama": ["kllama", "fBp0", "t2<unk>", "t3<s>", "t3</s>", *(f"t1{c}" for c in "ab▁"), "t1▁a", "t4<x>", "xa <x>ab"],
    "bert": ["kbert", "fl1", "t3[PAD]", "t3[UNK]", "t3[CLS]", "t1▁a", "t1b", "t1▁!", "xAB a!é cb"],
}


ANSWERS = Path(__file__).parent.parent / "crates/text/tests/answers"
# The forms of the target, in its order.
FORMS = (
    "hermes qwen3_coder glm llama3 mistral mistral_list gemma4 lfm2 harmony granite3 deepseek_v31 minimax seed "
    "minicpm5 apertus nemotron2 apriel functionary".split()
)
BEGINS = ["text", "thoughts", "after thoughts", "header"]
MARK = "\ufdd1"


def answers() -> dict[str, bytes]:
    """The golden streams, as text and with a mark before each control token."""
    seeds = {}
    for form, name in enumerate(FORMS):
        head, *streams = (ANSWERS / f"{name}.txt").read_text().split("\n\n")
        control = [line.removeprefix("control ") for line in head.splitlines() if line.startswith("control ")]
        for number, stream in enumerate(streams):
            lines = stream.splitlines()
            begins = next((line.removeprefix("begins ") for line in lines if line.startswith("begins ")), "text")
            text = "".join(json.loads(line[2:]) for line in lines if line.startswith("> "))
            marked = text
            for token in control:
                marked = marked.replace(token, MARK + token)
            how = bytes([form, BEGINS.index(begins), 6])
            seeds[f"{name}-{number}"] = how + text.encode()
            seeds[f"{name}-{number}-marked"] = how + marked.encode()
        seeds[f"{name}-held"] = bytes([128 + form, 0, 6]) + bytes(range(7, 250, 9))
    return seeds


TOOL = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {}}}, "strict": True}
CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "t",
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "r"},
    ],
    "tools": [{"type": "function", "function": TOOL}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "reasoning_effort": "low",
    "chat_template_kwargs": {"enable_thinking": True},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"5": -1.5},
    "stop": ["a"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 4,
    "n": 2,
    "seed": 7,
    "temperature": 0.5,
    "metadata": {"user_id": "u"},
}
COMPLETION = {"prompt": ["a", [1, 2]], "max_tokens": 1, "logprobs": 2, "echo": False, "stop": "x", "n": 2, "suffix": None}
EMBEDDING = {"input": ["a", [1, 2]], "encoding_format": "base64", "dimensions": 3}


RESPONSE = {
    "model": "m",
    "instructions": "s",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "t"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "r"},
    ],
    "tools": [
        {"type": "function", **TOOL},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", **TOOL}]},
        {"type": "custom", "name": "c"},
        {"type": "web_search"},
    ],
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "store": False,
    "stream": True,
}
MESSAGE = {
    "model": "m",
    "max_tokens": 4,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "sv1."},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "r"}]},
                {"type": "text", "text": "y"},
            ],
        },
        {"role": "system", "content": "z"},
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low"},
    "stop_sequences": ["a"],
    "metadata": {"user_id": "u"},
    "stream": True,
}
OLLAMA_CHAT = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "x", "images": []},
        {"role": "assistant", "content": "", "thinking": "t", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "content": "r", "tool_name": "f"},
    ],
    "tools": [{"type": "function", "function": TOOL}],
    "format": {"type": "object"},
    "options": {"seed": 1, "num_predict": -1, "stop": ["a"], "num_ctx": 4096},
    "think": "low",
    "keep_alive": "5m",
}
OLLAMA_GENERATE = {"model": "m", "prompt": "x", "system": "s", "raw": False, "options": {}, "stream": False}
OLLAMA_EMBED = {"model": "m", "input": ["a"], "truncate": True, "dimensions": 3}


def requests() -> dict[str, bytes]:
    bodies = {
        "chat": CHAT,
        "completion": COMPLETION,
        "embedding": EMBEDDING,
        "response": RESPONSE,
        "message": MESSAGE,
        "count": {name: MESSAGE[name] for name in ("model", "system", "messages", "tools")},
        "ollama-chat": OLLAMA_CHAT,
        "ollama-generate": OLLAMA_GENERATE,
        "ollama-embed": OLLAMA_EMBED,
        "ollama-embeddings": {"model": "m", "prompt": "x"},
    }
    return {name: bytes([api]) + json.dumps(body).encode() for api, (name, body) in enumerate(bodies.items())}


def schemas() -> dict[str, bytes]:
    lines = [json.loads(line)["schema"] for line in SCHEMAS.read_text().splitlines()]
    return {str(i): json.dumps(schema).encode() for i, schema in enumerate(lines + HOSTILE_SCHEMAS)}


def main() -> None:
    segment = next(FORMAT.glob("*.kv")).read_bytes()
    manifest = next(FORMAT.glob("*.agent")).read_bytes()
    halves = struct.pack("<H", len(segment)) + segment
    # The segment of blocks, and that of the states that stand on them.
    blocks, states = [path.read_bytes() for path in sorted(STATES.glob("*.kv"))]
    both = struct.pack("<H", len(blocks)) + blocks + states
    seeds = {
        # The first byte says what is put right before the store reads the rest.
        "segment": {
            "as-it-is": b"\x00" + segment,
            "mended": b"\x04" + segment,
            "two": b"\x0d" + halves + segment,
            "two-mended-once": b"\x09" + halves + segment,
            "states": b"\x01" + both,
            "states-mended": b"\x0d" + both,
            "states-buried": b"\x2d" + both,
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
        "answers": answers(),
        "requests": requests(),
        "template": {str(i): template.encode() for i, template in enumerate(TEMPLATES)},
    }
    for target, files in seeds.items():
        folder = Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)


main()
