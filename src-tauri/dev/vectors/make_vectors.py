"""Makes the tiny models of each family, or those named, and what llama.cpp computes with them:

    python3 -m venv VENV && VENV/bin/pip install -r src-tauri/dev/vectors/requirements.txt
    VENV/bin/python src-tauri/dev/vectors/make_vectors.py [NAME ..]

`tests/families/` and `tests/encoders/` of the package `model` get NAME.gguf, whose weights are random and stored in
several types, and NAME.vec, what the same values give as floats: the model itself, without anybody's rounding.

Of a mixture of experts the first model is taken that llama.cpp leads through the same experts however its weights are
nudged: where two are nearly equal for a token, its logits say how somebody rounds and nothing else. Recurrent layers
carry nudges along, so of models with those that cannot be told.

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
# How often the weights are nudged, and by what share of each: several times what rounding to 16 bits does.
N_NUDGES, NUDGE = 8, 1e-3
# How far logits may go with that, as a share of the largest of the position; another expert moves them by more.
WITHIN = 0.03
TESTS = Path(__file__).parents[2] / "crates/model/tests"


def some_tokens(n: int) -> list[int]:
    return np.random.default_rng(9).integers(0, tiny.N_VOCAB, n).tolist()


def by_reference(model: tiny.Tiny, use: callable, nudge: np.random.Generator | None = None) -> np.ndarray:
    """What `use` makes of the file of the model's values as floats, each nudged if there is somebody to."""

    def nudged(values: np.ndarray) -> np.ndarray:
        return values * (1 + NUDGE * nudge.standard_normal(values.shape)) if nudge else values

    with tempfile.TemporaryDirectory() as folder:
        expanded = Path(folder) / "expanded.gguf"
        model.write(expanded, expanded=True, nudged=nudged)
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


def make_decoder(name: str, make: callable) -> None:
    tokens = some_tokens(N_TOKENS)

    def logits(path: Path) -> np.ndarray:
        return reference.logits(path, tokens)

    def is_steady(model: tiny.Tiny, exact: np.ndarray) -> bool:
        largest = np.abs(exact).max(axis=1)
        nudges = (np.random.default_rng(draw) for draw in range(N_NUDGES))
        off = (np.abs(by_reference(model, logits, nudge) - exact).max(axis=1) / largest for nudge in nudges)
        return all(share.max() <= WITHIN for share in off)

    for tiny.Tiny.attempt in range(100):
        model = make()
        exact = by_reference(model, logits)
        if name not in experts.MODELS or "expert_count" not in model.keys or is_steady(model, exact):
            break
    else:
        raise RuntimeError(f"{name}: no attempt is steady")
    if tiny.Tiny.attempt:
        print(f"{name}: attempt {tiny.Tiny.attempt}")
    tiny.Tiny.attempt = 0
    write("families", name, model, [N_TOKENS, tiny.N_VOCAB, *tokens], exact)


def make_encoder(name: str, model: tiny.Tiny) -> None:
    tokens = some_tokens(encoders.N_TOKENS)

    def vectors(path: Path) -> np.ndarray:
        loaded = reference.load(path)
        ways = [reference.NONE, reference.MEAN, reference.FIRST, reference.LAST]
        rows = [reference.vectors(loaded, tokens, way, tiny.WIDTH).reshape(-1, tiny.WIDTH) for way in ways]
        return np.concatenate(rows)

    values = by_reference(model, vectors)
    write("encoders", name, model, [len(tokens), tiny.WIDTH, *tokens], values)


def main() -> None:
    decoders = dense.MODELS | experts.MODELS | recurrent.MODELS
    for name in sys.argv[1:] or [*decoders, *encoders.MODELS]:
        if name in decoders:
            make_decoder(name, decoders[name])
        else:
            make_encoder(name, encoders.MODELS[name]())


if __name__ == "__main__":
    main()
