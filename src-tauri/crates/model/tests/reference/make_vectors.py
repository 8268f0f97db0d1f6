"""Makes the reference vectors, with llama-cpp-python installed.

    python make_vectors.py SmolLM2-135M-Instruct.Q4_1.gguf smollm2.vec
    python expand.py SmolLM2-135M-Instruct.Q4_1.gguf /tmp/smollm2.f32.gguf
    python make_vectors.py /tmp/smollm2.f32.gguf smollm2.f32.vec

and the same for gemma-3-270m-q4_k_m.gguf and gemma3.

For every text of texts/ llama.cpp computes the logits of every position; what is kept of a position is its
best `K` tokens and the log-probability of the token that follows.

Layout, little endian: "SVEC", u32 K, u32 n_texts, then for each text
    u32 name bytes, name, u32 n_tokens, n_tokens x u32 token ids,
    n_tokens x [K x u32 id, K x f32 log-probability, f32 log-probability of the next token (0 at the end)]
A text is cut after MAX_TOKENS tokens.
"""

import struct
import sys
from pathlib import Path

import numpy as np
from llama_cpp import Llama

K = 4
MAX_TOKENS = 2600
TEXTS = Path(__file__).parent / "texts"


def main() -> None:
    model, out = sys.argv[1:3]
    options = {"n_ctx": MAX_TOKENS, "n_batch": 512, "n_threads": 2, "logits_all": True, "verbose": False}
    if ".f32." in model:
        # Nothing is to be rounded, keys and values neither.
        options |= {"type_k": 0, "type_v": 0}
    llama = Llama(model, **options)
    bos = llama.token_bos() if llama.metadata.get("tokenizer.ggml.add_bos_token", "false") == "true" else None
    files = sorted(TEXTS.glob("*.txt"))
    blob = struct.pack("<4sII", b"SVEC", K, len(files))
    for file in files:
        tokens = llama.tokenize(file.read_bytes(), add_bos=False, special=True)
        tokens = ([bos] if bos is not None else []) + tokens
        tokens = tokens[:MAX_TOKENS]
        llama.reset()
        llama.eval(tokens)
        best = np.zeros((len(tokens), K), "<u4")
        best_logp = np.zeros((len(tokens), K), "<f4")
        following = np.zeros(len(tokens))
        for i in range(len(tokens)):
            logits = llama.scores[i].astype(np.float64)
            logp = logits - logits.max()
            logp -= np.log(np.exp(logp).sum())
            top = np.argpartition(-logp, K)[:K]
            best[i] = top[np.argsort(-logp[top], kind="stable")]
            best_logp[i] = logp[best[i]]
            if i + 1 < len(tokens):
                following[i] = logp[tokens[i + 1]]
        name = file.stem.encode()
        blob += struct.pack("<I", len(name)) + name + struct.pack("<I", len(tokens))
        blob += np.array(tokens, "<u4").tobytes()
        for i in range(len(tokens)):
            blob += best[i].tobytes() + best_logp[i].tobytes()
            blob += struct.pack("<f", following[i])
        nll = -following[:-1].mean()
        print(f"{file.stem:12} {len(tokens):5} tokens, perplexity {np.exp(nll):8.3f}", flush=True)
    Path(out).write_bytes(blob)


if __name__ == "__main__":
    main()
