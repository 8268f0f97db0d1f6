"""Writes the reference token ids of corpus.jsonl for both test models.

Usage: python make_token_vectors.py MODELS_DIR      (needs the package llama-cpp-python)

corpus.jsonl has one JSON string per line. NAME.tokens has one line for each: the ids that llama.cpp gives with
special tokens parsed, and, if they differ, `|` and the ids without. No BOS is added in either.
"""

import json
import pathlib
import sys

import llama_cpp

MODELS = {
    "smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "gemma3": "gemma-3-270m-q4_k_m.gguf",
}

here = pathlib.Path(__file__).parent
corpus = [json.loads(line) for line in (here / "corpus.jsonl").read_text(encoding="utf-8").split("\n") if line]

for name, file in MODELS.items():
    model = llama_cpp.Llama(str(pathlib.Path(sys.argv[1]) / file), vocab_only=True, verbose=False)
    lines = []
    for text in corpus:
        parsed, plain = (
            " ".join(map(str, model.tokenize(text.encode(), add_bos=False, special=special)))
            for special in (True, False)
        )
        lines.append(parsed if parsed == plain else f"{parsed}|{plain}")
    (here / f"{name}.tokens").write_text("\n".join(lines) + "\n")
    print(name, len(lines), "lines, llama-cpp-python", llama_cpp.__version__)
