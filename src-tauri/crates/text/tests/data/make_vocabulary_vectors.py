"""Writes vocabularies.jsonl: what llama.cpp makes of the vocabularies that its source package carries.

Usage: python make_vocabulary_vectors.py VOCABULARIES_DIR      (needs the packages of make_pre_vectors.py)

Each line has a vocabulary's name, the tokens that end an answer, and for each text of pre_tokenizers.jsonl the 32-bit
FNV-1a hash of its ids as little-endian 32-bit numbers, special tokens not parsed.
"""

import json
import pathlib
import struct
import sys

from make_pre_vectors import HERE, Reference


def fnv(ids: list[int]) -> str:
    value = 0x811C9DC5
    for byte in struct.pack(f"<{len(ids)}I", *ids):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{value:08x}"


def main() -> None:
    reference = Reference()
    head = json.loads((HERE / "pre_tokenizers.jsonl").read_text(encoding="utf-8").split("\n", 1)[0])
    with open(HERE / "vocabularies.jsonl", "w", encoding="utf-8") as out:
        for path in sorted(pathlib.Path(sys.argv[1]).glob("*.gguf")):
            model = reference.load(str(path))
            if not model:
                raise SystemExit(f"{path}: {''.join(reference.log[-3:])}")
            vocab = reference.lib.llama_model_get_vocab(model)
            n = reference.lib.llama_vocab_n_tokens(vocab)
            ends = [id for id in range(n) if reference.lib.llama_vocab_is_eog(vocab, id)]
            hashes = "".join(fnv(reference.ids(model, text)) for text in head["corpus"])
            out.write(json.dumps({"name": path.stem, "ends": ends, "hashes": hashes}) + "\n")
            print(path.stem, n, "tokens, ends", ends)
            reference.free(model)


if __name__ == "__main__":
    main()
