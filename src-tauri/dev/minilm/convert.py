"""Writes all-MiniLM-L6-v2 as a GGUF: `python convert.py FOLDER OUT.gguf`, with what `requirements.txt` names installed.

FOLDER has the model as its authors published it: config.json, vocab.txt, model.safetensors and 1_Pooling/config.json. The
weights stay the floats that they are, and the same packages always write the same bytes.
"""

import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, PoolingType, TokenType

SPACE = "\u2581"

# Which tensor of the model is which of a GGUF's, of the whole and of each layer; both have weights and biases.
OF_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
OF_ALL = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}


def tensors(path: Path) -> dict[str, np.ndarray]:
    """What a file of safetensors holds: the length of a JSON header, the header, and the values at the places it names."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    found = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            # Numbers of the positions, which nothing is computed with.
            continue
        first, end = entry["data_offsets"]
        found[name] = np.frombuffer(raw[start + first : start + end], "<f4").reshape(entry["shape"])
    return found


def is_special(token: str) -> bool:
    return token.startswith("[") and token.endswith("]") and len(token) > 2


def as_written(token: str) -> str:
    """A GGUF marks what begins a word, the vocabulary what goes on with one."""
    if is_special(token):
        return token
    return token.removeprefix("##") if token.startswith("##") else SPACE + token


def add_vocabulary(writer: GGUFWriter, tokens: list[str], n_types: int) -> None:
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([as_written(token) for token in tokens])
    writer.add_token_types([TokenType.CONTROL if is_special(token) else TokenType.NORMAL for token in tokens])
    writer.add_token_type_count(n_types)
    writer.add_uint32("tokenizer.ggml.cls_token_id", tokens.index("[CLS]"))
    writer.add_sep_token_id(tokens.index("[SEP]"))
    writer.add_unk_token_id(tokens.index("[UNK]"))
    writer.add_pad_token_id(tokens.index("[PAD]"))
    writer.add_mask_token_id(tokens.index("[MASK]"))


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    config = json.loads((folder / "config.json").read_text())
    pooling = json.loads((folder / "1_Pooling/config.json").read_text())
    assert config["hidden_act"] == "gelu" and pooling["pooling_mode_mean_tokens"]
    writer = GGUFWriter(out, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_license("apache-2.0")
    writer.add_file_type(0)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(PoolingType.MEAN)
    tokens = (folder / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    add_vocabulary(writer, tokens, config["type_vocab_size"])
    there = tensors(folder / "model.safetensors")
    for name, ours in OF_ALL.items():
        writer.add_tensor(ours, there.pop(name))
    for layer in range(config["num_hidden_layers"]):
        for name, ours in OF_LAYER.items():
            for part in "weight", "bias":
                writer.add_tensor(f"blk.{layer}.{ours}.{part}", there.pop(f"encoder.layer.{layer}.{name}.{part}"))
    # What is made of the first token for the task that the model was trained on first.
    assert set(there) <= {"pooler.dense.weight", "pooler.dense.bias"}, sorted(there)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
