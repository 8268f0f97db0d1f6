"""Writes a llama-shaped GGUF of about one billion parameters in the Q4_K_M mixture with random weights.

Shapes are those of a 1B model with 16 layers; the blocks' bytes are random with small scales, so that every
value is finite. It has no vocabulary and says nothing sensible: it is there to be timed.
"""

import argparse
import os

import gguf
import numpy as np

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 16, 2048, 8192, 32, 8, 64, 128256
BLOCK = {"Q4_K": (gguf.GGMLQuantizationType.Q4_K, 144, slice(0, 4)), "Q6_K": (gguf.GGMLQuantizationType.Q6_K, 210, slice(208, 210))}


def blocks(rng: np.random.Generator, kind: str, rows: int, cols: int):
    dtype, n_bytes, scales = BLOCK[kind]
    data = rng.integers(0, 256, size=(rows * cols // 256, n_bytes), dtype=np.uint8)
    n_scales = (scales.stop - scales.start) // 2
    small = np.full((data.shape[0], n_scales), 2e-5 if kind == "Q6_K" else 6e-5, dtype=np.float16)
    data[:, scales] = small.view(np.uint8)
    return data.reshape(rows, -1), dtype


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    output = parser.parse_args().output
    rng = np.random.default_rng(1)
    partial = output + ".partial"
    w = gguf.GGUFWriter(partial, "llama")
    w.add_name("synthetic-1b")
    w.add_block_count(LAYERS)
    w.add_context_length(131072)
    w.add_embedding_length(HIDDEN)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_rope_dimension_count(HEAD_DIM)
    w.add_rope_freq_base(500000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(VOCAB)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    w.add_tokenizer_model("no_vocab")

    def add(name: str, kind: str, rows: int, cols: int) -> None:
        data, dtype = blocks(rng, kind, rows, cols)
        w.add_tensor(name, data, raw_dtype=dtype)

    add("token_embd.weight", "Q6_K", VOCAB, HIDDEN)
    w.add_tensor("output_norm.weight", np.ones(HIDDEN, dtype=np.float32))
    for layer in range(LAYERS):
        p = f"blk.{layer}."
        # The mixture gives the more sensitive half of these tensors six bits.
        more = layer < LAYERS // 8 or layer >= 7 * LAYERS // 8 or (layer - LAYERS // 8) % 3 == 2
        add(p + "attn_q.weight", "Q4_K", HEADS * HEAD_DIM, HIDDEN)
        add(p + "attn_k.weight", "Q4_K", KV_HEADS * HEAD_DIM, HIDDEN)
        add(p + "attn_v.weight", "Q6_K" if more else "Q4_K", KV_HEADS * HEAD_DIM, HIDDEN)
        add(p + "attn_output.weight", "Q4_K", HIDDEN, HEADS * HEAD_DIM)
        add(p + "ffn_gate.weight", "Q4_K", FFN, HIDDEN)
        add(p + "ffn_up.weight", "Q4_K", FFN, HIDDEN)
        add(p + "ffn_down.weight", "Q6_K" if more else "Q4_K", HIDDEN, FFN)
        w.add_tensor(p + "attn_norm.weight", np.ones(HIDDEN, dtype=np.float32))
        w.add_tensor(p + "ffn_norm.weight", np.ones(HIDDEN, dtype=np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.replace(partial, output)


if __name__ == "__main__":
    main()
