"""Makes llama.cpp's vectors of the real all-MiniLM-L6-v2, with the packages of `requirements.txt` installed:

    VENV/bin/python src-tauri/dev/vectors/make_minilm.py MODELS/all-MiniLM-L6-v2.f32.gguf

`tests/reference/minilm.json` of the package `model` has the texts and `minilm.vec` gets what comes of each. Layout, little
endian: u32 n_texts, u32 width, for each text u32 n_tokens, n_tokens x u32 token ids, those that open and close it among
them, and width x f32 vector, which is not brought to a length of 1.
"""

import json
import sys
from pathlib import Path

import numpy as np
import reference

WIDTH = 384
FOLDER = Path(__file__).parents[2] / "crates/model/tests/reference"


def main() -> None:
    model = reference.load(Path(sys.argv[1]))
    texts = json.loads((FOLDER / "minilm.json").read_text(encoding="utf-8"))
    out = [np.array([len(texts), WIDTH], "<u4").tobytes()]
    vectors = []
    for text in texts:
        tokens = reference.tokens_of(model, text)
        vector = reference.vectors(model, tokens, reference.MEAN, WIDTH)
        assert np.isfinite(vector).all()
        out += [np.array([len(tokens), *tokens], "<u4").tobytes(), vector.astype("<f4").tobytes()]
        vectors.append(vector / np.linalg.norm(vector))
        print(f"{len(tokens):4} tokens, cosine with the first text {vectors[0] @ vectors[-1]:+.4f}  {text[:50]!r}")
    (FOLDER / "minilm.vec").write_bytes(b"".join(out))


if __name__ == "__main__":
    main()
