"""Writes a model that plays a part: a real GGUF file, whose weights lead from each of its tokens to the next.

    python tests/clients/scripted_model.py FILE

The starter model is too small to choose among tools, and agents let the model choose. This one is run by the same code
and answers at once: its template picks the first token of an answer by what was asked, and each token of an answer is
likely before one other only. Standard library only.
"""

import functools
import json
import struct
import sys

import checks

STRING, ARRAY, U32, I32, F32 = 8, 9, 4, 5, 6
NORMAL, CONTROL = 1, 3
WIDTH, HEAD, FEED_FORWARD = 128, 64, 32
CONTEXT = 65536


def call(name: str, arguments: str) -> list[str]:
    """A call as it is written in the form of Hermes, in two pieces."""
    return ['<tool_call>\n{"name": "%s", ' % name, '"arguments": %s}\n</tool_call>' % arguments]


def halves(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]]


# What it says, in pieces that are a token each, by the control token that it begins after.
SAYS = {
    "<|plain|>": halves("Hello there."),
    "<|calls-weather|>": call(checks.TOOL, '{"city": "Paris"}'),
    "<|told|>": halves(checks.SCRIPTED_TOLD),
    "<|untold|>": halves("I was told nothing."),
    # The tools of agents, by which they run a command.
    "<|calls-exec|>": call("exec_command", '{"cmd": "cat note.txt"}'),
    "<|calls-bash|>": call("bash", '{"command": "cat note.txt", "description": "Reads the note"}'),
    "<|noted|>": halves(checks.WORDS["scripted_noted"]),
    "<|calls-final|>": call("final_answer", json.dumps({"answer": checks.SCRIPTED_TOLD})),
}
# Of these the last piece leads to the first again.
ENDLESS = {"<|story|>": [" The river", " went on", " and on."]}
SIGNS = ["<|im_start|>", "<|im_end|>"]
# A vocabulary of this kind has at least one pair of tokens that text is joined by.
PAIR = ("\u0120", "t")

# The text of messages is cut: it is read byte by byte, and agents write a lot. `<tool_call>` says the form of calls.
TEMPLATE = """{%- set names = (tools or []) | map(attribute='function.name') | list -%}
{%- for name in names %}<tool_call>{{ name }}
{% endfor -%}
{%- for m in messages %}<|im_start|>{{ m.role }}
{{ (m.content or '')[:400] }}
{%- for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% set last = messages[-1].content or '' -%}
{%- if '[[long]]' in last %}<|story|>
{%- elif '[[note_sign]]' in last %}<|noted|>
{%- elif '[[tool_says]]' in last and 'final_answer' in names %}<|calls-final|>
{%- elif '[[tool_says]]' in last %}<|told|>
{%- elif messages[-1].role == 'tool' %}<|untold|>
{%- elif '[[tool]]' in names %}<|calls-weather|>
{%- elif 'exec_command' in names %}<|calls-exec|>
{%- elif 'bash' in names %}<|calls-bash|>
{%- else %}<|plain|>
{%- endif -%}
{%- endif -%}
"""

def template() -> str:
    return functools.reduce(lambda text, word: text.replace(f"[[{word}]]", checks.WORDS[word]), checks.WORDS, TEMPLATE)


def byte_texts() -> list[str]:
    """Each byte as the character that GPT-2's vocabularies write it with."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def tokens() -> tuple[list[str], list[int], dict[int, int]]:
    """The texts of all tokens, their kinds, and which follows which."""
    of_byte = byte_texts()
    texts, follows = [*of_byte, "".join(PAIR), *SIGNS], {}
    kinds = [NORMAL] * 257 + [CONTROL] * len(SIGNS)
    end = texts.index("<|im_end|>")
    for start, pieces in {**SAYS, **ENDLESS}.items():
        texts.append(start)
        kinds.append(CONTROL)
        for piece in pieces:
            follows[len(texts) - 1] = len(texts)
            texts.append("".join(of_byte[byte] for byte in piece.encode()))
            kinds.append(NORMAL)
        follows[len(texts) - 1] = len(texts) - len(pieces) if start in ENDLESS else end
    assert len(set(texts)) == len(texts), "two tokens have one text"
    return texts, kinds, follows


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def key(name: str, kind: int, value: bytes) -> bytes:
    return string(name) + struct.pack("<I", kind) + value


def array(name: str, kind: int, values: list[bytes]) -> bytes:
    return key(name, ARRAY, struct.pack("<IQ", kind, len(values)) + b"".join(values))


def floats(values) -> bytes:
    values = list(values)
    return struct.pack(f"<{len(values)}f", *values)


def tensors(n_tokens: int, follows: dict[int, int], end: int) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """Weights by name, each with its lengths, the innermost first."""
    # A place in the width for each token that another follows; the first for all others, which end the answer.
    places = {token: 1 + i for i, token in enumerate(follows)}
    assert len(places) < WIDTH, "the width has no place for so many tokens"
    embedded, output = bytearray(4 * WIDTH * n_tokens), bytearray(4 * WIDTH * n_tokens)
    for token in range(n_tokens):
        struct.pack_into("<f", embedded, 4 * (WIDTH * token + places.get(token, 0)), 1.0)
    for token, following in [(None, end), *follows.items()]:
        struct.pack_into("<f", output, 4 * (WIDTH * following + places.get(token, 0)), 9.0)
    nothing = lambda *shape: (shape, bytes(4 * shape[0] * shape[1]))
    ones = ((WIDTH,), floats([1.0] * WIDTH))
    return {
        "token_embd.weight": ((WIDTH, n_tokens), bytes(embedded)),
        "output.weight": ((WIDTH, n_tokens), bytes(output)),
        "output_norm.weight": ones,
        "blk.0.attn_norm.weight": ones,
        "blk.0.ffn_norm.weight": ones,
        "blk.0.attn_q.weight": nothing(WIDTH, HEAD),
        "blk.0.attn_k.weight": nothing(WIDTH, HEAD),
        "blk.0.attn_v.weight": nothing(WIDTH, HEAD),
        "blk.0.attn_output.weight": nothing(HEAD, WIDTH),
        "blk.0.ffn_gate.weight": nothing(WIDTH, FEED_FORWARD),
        "blk.0.ffn_up.weight": nothing(WIDTH, FEED_FORWARD),
        "blk.0.ffn_down.weight": nothing(FEED_FORWARD, WIDTH),
    }


def gguf() -> bytes:
    texts, kinds, follows = tokens()
    end = texts.index("<|im_end|>")
    u32 = lambda name, value: key(name, U32, struct.pack("<I", value))
    keys = [
        key("general.architecture", STRING, string("llama")),
        key("general.name", STRING, string("scripted")),
        u32("llama.block_count", 1),
        u32("llama.embedding_length", WIDTH),
        u32("llama.feed_forward_length", FEED_FORWARD),
        u32("llama.attention.head_count", 1),
        u32("llama.attention.head_count_kv", 1),
        u32("llama.attention.key_length", HEAD),
        u32("llama.attention.value_length", HEAD),
        u32("llama.rope.dimension_count", HEAD),
        u32("llama.context_length", CONTEXT),
        key("llama.attention.layer_norm_rms_epsilon", F32, floats([1e-5])),
        key("tokenizer.ggml.model", STRING, string("gpt2")),
        key("tokenizer.ggml.pre", STRING, string("gpt-2")),
        array("tokenizer.ggml.tokens", STRING, [string(text) for text in texts]),
        array("tokenizer.ggml.token_type", I32, [struct.pack("<i", kind) for kind in kinds]),
        array("tokenizer.ggml.merges", STRING, [string(" ".join(PAIR))]),
        u32("tokenizer.ggml.eos_token_id", end),
        key("tokenizer.chat_template", STRING, string(template())),
    ]
    weights = tensors(len(texts), follows, end)
    padded = lambda data: data + bytes(-len(data) % 32)
    head, place = b"", 0
    for name, (shape, data) in weights.items():
        head += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, place)
        place += len(padded(data))
    start = b"GGUF" + struct.pack("<IQQ", 3, len(weights), len(keys)) + b"".join(keys) + head
    return padded(start) + b"".join(padded(data) for _, data in weights.values())


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as file:
        file.write(gguf())
