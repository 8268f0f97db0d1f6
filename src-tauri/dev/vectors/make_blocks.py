"""Makes what the package `kernels` has of the block formats from elsewhere:

    python3 -m venv VENV && VENV/bin/pip install -r src-tauri/dev/vectors/requirements.txt
    VENV/bin/python src-tauri/dev/vectors/make_blocks.py

`src/ggml/packed_grids.rs` are the grids of IQ1, IQ2 and IQ3, which are part of the formats, as the package `gguf` has
them; `tests/blocks/grids.txt` has, for each, the sum of all elements times their places. `tests/blocks/TYPE.bin` are random blocks of a type with their values, which both `gguf` and llama.cpp decode them
to, and with a product worked out in f64.

Layout of TYPE.bin, little endian: u32 n_out, u32 n_in, the blocks of n_out rows, n_out x n_in x f32 values,
n_in x f32 of a row to multiply with, n_out x f64 products.
"""

import ctypes
from pathlib import Path

import gguf
import gguf.quants
import numpy as np
import xllamacpp
from gguf import GGMLQuantizationType as Type

KERNELS = Path(__file__).parents[2] / "crates/kernels"

TYPES = """Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4 NVFP4 IQ3_XXS IQ3_S IQ2_XXS IQ2_XS IQ2_S
IQ1_S IQ1_M TQ1_0 TQ2_0""".split()

# Where each f16 of a block is that scales all of it.
SCALES = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
SCALES |= {"TQ1_0": [52], "TQ2_0": [64], "MXFP4": [], "NVFP4": [], "IQ1_M": []}

# Name, class of `gguf`, elements of a row, bits of an element, what it is.
GRIDS = [
    ("IQ3XXS", "IQ3_XXS", 4, 4, "Index of an element in 4, 12, 20, 28, 36, 44, 52, 62."),
    ("IQ3S", "IQ3_S", 4, 4, "Index of an element in 1, 3, 5, 7, 9, 11, 13, 15."),
    ("IQ2XXS", "IQ2_XXS", 8, 2, "Index of an element in 8, 25, 43."),
    ("IQ2XS", "IQ2_XS", 8, 2, "Index of an element in 8, 25, 43."),
    ("IQ2S", "IQ2_S", 8, 2, "Index of an element in 8, 25, 43."),
    ("IQ1", "IQ1_S", 8, 2, "An element of -1, 0, 1, plus 1."),
]


def write_grids() -> None:
    text = "//! The grids of IQ1, IQ2 and IQ3 as the formats define them, a row in 16 bits, its first element lowest.\n//!\n"
    text += "//! Written by `src-tauri/dev/vectors/make_blocks.py`.\n"
    sums = ""
    for name, kind, n, bits, what in GRIDS:
        quant = getattr(gguf.quants, kind)
        quant.init_grid()
        grid = quant.grid.reshape(-1, n)
        codes = np.searchsorted(np.array(quant.grid_map, np.float32), grid).astype(np.uint32)
        assert (np.array(quant.grid_map)[codes] == grid).all()
        rows = (codes << (bits * np.arange(n, dtype=np.uint32))).sum(axis=1)
        text += f"\n/// {what}\npub(super) const {name}: [u16; {len(rows)}] = [\n"
        for at in range(0, len(rows), 13):
            text += "    " + " ".join(f"0x{row:04x}," for row in rows[at : at + 13]) + "\n"
        text += "];\n"
        # In another form, so that a slip of the table's own is seen: the elements themselves.
        elements = np.rint(grid).astype(np.int64).reshape(-1)
        sums += f"{name} {(elements * np.arange(1, elements.size + 1)).sum()}\n"
    (KERNELS / "src/ggml/packed_grids.rs").write_text(text)
    (KERNELS / "tests/blocks").mkdir(parents=True, exist_ok=True)
    (KERNELS / "tests/blocks/grids.txt").write_text(sums)


def libraries() -> list[ctypes.CDLL]:
    """The wheel's shared objects: its module, and what it may have been linked to."""
    root = Path(xllamacpp.__file__).parent
    return [ctypes.CDLL(str(path)) for path in sorted(root.rglob("*.so*")) + sorted(root.parent.glob("xllamacpp.libs/*"))]


def llama_cpp_values(libraries: list[ctypes.CDLL], name: str, raw: np.ndarray, n: int) -> np.ndarray:
    symbol = "dequantize_row_" + name.lower().replace("_k", "_K")
    function = next(getattr(library, symbol) for library in libraries if hasattr(library, symbol))
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    function.restype = None
    out = np.empty(n, np.float32)
    raw = np.ascontiguousarray(raw)
    function(raw.ctypes.data, out.ctypes.data, n)
    return out


def write_blocks(libraries: list[ctypes.CDLL], name: str, rng: np.random.Generator) -> int:
    n_elems, n_bytes = gguf.GGML_QUANT_SIZES[Type[name]]
    n_out, n_in = 3, max(128, n_elems)
    blocks = rng.integers(0, 256, (n_out * n_in // n_elems, n_bytes), np.uint8)
    for i, at in enumerate(SCALES.get(name, [0])):
        scales = rng.uniform(0.001, 0.01, len(blocks)) * (1 - 2 * rng.integers(0, 2, len(blocks)))
        blocks[:, at : at + 2] = scales.astype("<f2").view(np.uint8).reshape(-1, 2)
    if name == "MXFP4":
        # All kinds of exponents, the smallest and the largest among them, but one row whose product fits.
        blocks[: len(blocks) // n_out, 0] = rng.integers(110, 130, len(blocks) // n_out)
        blocks[len(blocks) // n_out :, 0] = rng.choice([0, 1, 2, 3, 100, 127, 128, 140], len(blocks) * 2 // n_out)
    if name == "NVFP4":
        # Every kind of scale: below the normal range, NaN, with what would be a sign.
        blocks[:2, :4] = [[0x00, 0x01, 0x07, 0x08], [0x7E, 0x7F, 0x80, 0xFF]]
    if name == "IQ1_M":
        # The scale's four upper bits stand in the last byte.
        blocks[:, 55] = blocks[:, 55] & 0x0F | 0x20
    values = gguf.quants.dequantize(blocks.reshape(n_out, -1), Type[name]).astype(np.float32)
    assert np.isfinite(values).all(), name
    assert (llama_cpp_values(libraries, name, blocks, n_out * n_in).reshape(values.shape) == values).all(), name
    x = rng.integers(-127, 128, n_in).astype(np.float32)
    # The largest of each 32 is what 8 bits count to, so that they hold the others without rounding.
    x[::32] = 127
    products = values.astype(np.float64) @ x.astype(np.float64)
    content = np.array([n_out, n_in], "<u4").tobytes() + blocks.tobytes() + values.astype("<f4").tobytes()
    content += x.astype("<f4").tobytes() + products.astype("<f8").tobytes()
    (KERNELS / f"tests/blocks/{name}.bin").write_bytes(content)
    return len(content)


def main() -> None:
    write_grids()
    wheel = libraries()
    n_bytes = sum(write_blocks(wheel, name, np.random.default_rng(i)) for i, name in enumerate(TYPES))
    print(f"{len(TYPES)} types in {n_bytes} bytes")


if __name__ == "__main__":
    main()
