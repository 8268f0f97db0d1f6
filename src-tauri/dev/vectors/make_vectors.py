"""Makes the tiny models of each family, or those named, and what llama.cpp computes with them:

    python3 -m venv VENV && VENV/bin/pip install -r src-tauri/dev/vectors/requirements.txt
    VENV/bin/python src-tauri/dev/vectors/make_vectors.py [NAME ..]

`tests/families/` and `tests/encoders/` of the package `model` get NAME.gguf, whose weights are random and stored in
several types, and NAME.vec, what the same values give as floats: the model itself, without anybody's rounding.

Layout of NAME.vec, little endian, of a model that continues texts: u32 n_tokens, u32 n_vocab, n_tokens x u32 token ids,
n_tokens x n_vocab x f32 logits. Of one that reads them: u32 n_tokens, u32 width, n_tokens x u32 token ids,
n_tokens x width x f32 vectors of tokens, and 3 x width x f32 the text's vector, as their mean, the first and the last.
"""

import sys
import tempfile
from pathlib import Path

import dense
import encoders
import experts
import numpy as np
import recurrent
import reference
import tiny

N_TOKENS = 64
TESTS = Path(__file__).parents[2] / "crates/model/tests"


def some_tokens(n: int) -> list[int]:
    return np.random.default_rng(9).integers(0, tiny.N_VOCAB, n).tolist()


def with_expanded(model: tiny.Tiny, use: callable) -> np.ndarray:
    """What `use` makes of the file of the model's values as floats."""
    with tempfile.TemporaryDirectory() as folder:
        expanded = Path(folder) / "expanded.gguf"
        model.write(expanded, expanded=True)
        result = use(expanded)
    assert np.isfinite(result).all()
    return result


def write(folder: str, name: str, model: tiny.Tiny, head: list[int], values: np.ndarray) -> None:
    out = TESTS / folder
    out.mkdir(exist_ok=True)
    model.write(out / f"{name}.gguf")
    (out / f"{name}.vec").write_bytes(np.array(head, "<u4").tobytes() + values.astype("<f4").tobytes())
    sizes = [(out / f"{name}{ending}").stat().st_size for ending in (".gguf", ".vec")]
    print(f"{name:22} {sizes[0]} + {sizes[1]} bytes, values from {values.min():.2f} to {values.max():.2f}")


def make_decoder(name: str, model: tiny.Tiny) -> None:
    tokens = some_tokens(N_TOKENS)
    logits = with_expanded(model, lambda path: reference.logits(path, tokens))
    write("families", name, model, [N_TOKENS, tiny.N_VOCAB, *tokens], logits)


def make_encoder(name: str, model: tiny.Tiny) -> None:
    tokens = some_tokens(encoders.N_TOKENS)

    def vectors(path: Path) -> np.ndarray:
        loaded = reference.load(path)
        ways = [reference.NONE, reference.MEAN, reference.FIRST, reference.LAST]
        rows = [reference.vectors(loaded, tokens, way, tiny.WIDTH).reshape(-1, tiny.WIDTH) for way in ways]
        return np.concatenate(rows)

    write("encoders", name, model, [len(tokens), tiny.WIDTH, *tokens], with_expanded(model, vectors))


def main() -> None:
    decoders = dense.MODELS | experts.MODELS | recurrent.MODELS
    for name in sys.argv[1:] or [*decoders, *encoders.MODELS]:
        if name in decoders:
            make_decoder(name, decoders[name]())
        else:
            make_encoder(name, encoders.MODELS[name]())


if __name__ == "__main__":
    main()
