"""Makes the tiny models of each family, or those named, and llama.cpp's logits for them:

    python3 -m venv VENV && VENV/bin/pip install -r src-tauri/dev/vectors/requirements.txt
    VENV/bin/python src-tauri/dev/vectors/make_vectors.py [NAME ..]

`tests/families/` of the package `model` gets NAME.gguf, whose weights are random and stored in several types, and
NAME.vec, the logits of the same values as floats: the model itself, without anybody's rounding.

Layout of NAME.vec, little endian: u32 n_tokens, u32 n_vocab, n_tokens x u32 token ids,
n_tokens x n_vocab x f32 logits.
"""

import sys
import tempfile
from pathlib import Path

import dense
import experts
import numpy as np
import recurrent
import reference
import tiny

N_TOKENS = 64
OUT = Path(__file__).parents[2] / "crates/model/tests/families"


def main() -> None:
    models = dense.MODELS | experts.MODELS | recurrent.MODELS
    for name in sys.argv[1:] or models:
        model = models[name]()
        tokens = np.random.default_rng(9).integers(0, tiny.N_VOCAB, N_TOKENS).tolist()
        OUT.mkdir(exist_ok=True)
        model.write(OUT / f"{name}.gguf")
        with tempfile.TemporaryDirectory() as folder:
            expanded = Path(folder) / "expanded.gguf"
            model.write(expanded, expanded=True)
            logits = reference.logits(expanded, tokens)
        assert np.isfinite(logits).all()
        head = np.array([N_TOKENS, tiny.N_VOCAB, *tokens], "<u4").tobytes()
        (OUT / f"{name}.vec").write_bytes(head + logits.astype("<f4").tobytes())
        sizes = [(OUT / f"{name}{ending}").stat().st_size for ending in (".gguf", ".vec")]
        print(f"{name:18} {sizes[0]} + {sizes[1]} bytes, logits from {logits.min():.2f} to {logits.max():.2f}")


if __name__ == "__main__":
    main()
