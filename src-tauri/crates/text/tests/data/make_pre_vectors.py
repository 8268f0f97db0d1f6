"""Writes pre_tokenizers.jsonl: how each name in `tokenizer.ggml.pre` cuts a corpus of random text.

Usage: python make_pre_vectors.py      (needs the packages xllamacpp==2026.10.11549, gguf==0.19.0, tokenizers==0.23.3)

The first line is the corpus. Each other line has names that cut alike, what is added around a text, and for each text
the lengths of its tokens in bytes. The vocabulary is made for the corpus: a token for each byte, one for each pair of
bytes that stands somewhere in it, and a few words that no merges lead to. A cut through a pair is seen at once.

llama.cpp says what is right, but for names whose patterns it only comes near: there the library that made the models
says it, with the pattern of the model's own tokenizer.json.
"""

import ctypes
import glob
import json
import os
import pathlib
import random
import re
import tempfile

import gguf
import tokenizers
import xllamacpp
from tokenizers import Regex, decoders, models, pre_tokenizers

HERE = pathlib.Path(__file__).parent
RECIPES = HERE.parent.parent / "src/recipes.rs"
WORDS = ["the", " the", "abc", "It's", "4711", "don", "日本"]
N_LINES = 240

GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KIMI = (
    r"[\p{Han}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
YOUTU_SCRIPTS = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+"
DEEPSEEK_CJK = "[一-龥ࠀ-一가-퟿]+"
DEEPSEEK_LETTERS = (
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ"
    r"Ὗ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ"
    r"𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
    r""
)
# The patterns of the models' own tokenizers where llama.cpp's std::regex has no classes for them, or reads another text:
# it puts a vertical tab in the place of each space beyond ASCII, which DeepSeek's range of scripts includes.
OWN = {
    "deepseek-llm": [
        r"[\r\n]", DEEPSEEK_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", DEEPSEEK_CJK, r"\p{N}+",
    ],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, r"\p{N}"],
    "tekken": [TEKKEN],
    "gpt-4o": [GPT4O],
    "llama4": [GPT4O],
    "kanana2": [GPT4O],
    "talkie": [GPT4O],
    "minimax-m2": [GPT4O],
    "granite-embed-multi-97m": [GPT4O],
    "tiny_aya": [r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O],
    "cohere2moe": [r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O],
    "youtu": [YOUTU_SCRIPTS, GPT4O.replace(r"\p{N}{1,3}", r"\p{N}")],
    "kimi-k2": [KIMI],
    "k2-horizon": [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}|\p{M}|\x{200C}|\x{200D})+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ],
}


def corpus() -> list[str]:
    dice = random.Random(20261130)
    kinds = [
        "abcdefgh", "ABCXYZ", "aA", "éèüñßøæ", "ÉÜÑØÆĐ", "привет", "ПРИВЕТ", "αβγς", "ΑΒΓ", "漢字日本語", "ひらがな",
        "カタカナー", "한국어말", "ㄱㄴㅏ", "ㄅㄆ", "กขคงเ", "កខគ", "မြန်", "नमस्ते", "বাংলা", "עברית", "عربي",
        "ǅǈ", "ʰˀ", "ªº", "0123456789", "٣٤٥", "०१२", "½²ⅣⅧ", " ", "  ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u3000",
        "\u2003", "\u0085", "\u2028", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "…“”‘’—：；，、。！？", "𝒳𝓎", "👩🚀😶",
        "\u200d\ufe0f", "\u0301\u0308", "\u0e49\u0e34", "\u0001\u007f", "€£+<=>", "ＡＢｃ１", "＝～", "︰", "\U0001f3fb", "⼀", "ﾊﾝ",
    ]
    whole = [
        "'s", "'S", "'re", "'LL", "'t", "'d", "'ve", "'m", "''", "don't", "It's", "the", " the", "abc", "Abc", "4711",
        "camelCase", "HTTPServer", "x1", "1x", "12345", "1234567", " 12", "  7", "...", "://", "/\n", "!\n\n", " \n ", "   ",
        "\n\n\n", "\t\t", " é", "e\u0301", "日本", "<sentinel:12>", "IMGIMGABCZ", "_1", "1_", "1.5", "$9", " -", "a b c",
    ]
    lines = []
    for _ in range(N_LINES):
        line = ""
        for _ in range(dice.randint(2, 9)):
            if dice.random() < 0.4:
                line += dice.choice(whole)
            else:
                kind = dice.choice(kinds)
                line += "".join(dice.choice(kind) for _ in range(dice.randint(1, 4)))
        lines.append(line)
    return lines


def letters() -> list[str]:
    """The character of each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, n = {byte: chr(byte) for byte in plain}, 0
    for byte in range(256):
        if byte not in table:
            table[byte], n = chr(256 + n), n + 1
    return [table[byte] for byte in range(256)]


LETTERS = letters()


def spelt(data: bytes) -> str:
    return "".join(LETTERS[byte] for byte in data)


def vocabulary(lines: list[str]) -> tuple[list[str], list[str]]:
    pairs = {pair for line in lines for pair in zip(line.encode(), line.encode()[1:])}
    ordered = sorted(pairs, key=lambda pair: ((pair[0] * 7919 + pair[1] * 104729) % 65537, pair))
    tokens = [spelt(bytes([byte])) for byte in range(256)] + [spelt(bytes(pair)) for pair in ordered]
    tokens += [spelt(word.encode()) for word in WORDS] + ["<s>", "</s>", "<sep>"]
    return tokens, [f"{LETTERS[left]} {LETTERS[right]}" for left, right in ordered]


class Reference:
    """llama.cpp's C interface, as far as vocabularies need it."""

    class Params(ctypes.Structure):
        _fields_ = (
            [("devices", ctypes.c_void_p), ("overrides", ctypes.c_void_p)]
            + [(name, ctypes.c_int32) for name in ("n_gpu_layers", "split_mode", "load_mode", "lazy_mode", "main_gpu")]
            + [(name, ctypes.c_void_p) for name in ("tensor_split", "progress", "progress_data", "kv_overrides")]
            + [(name, ctypes.c_bool) for name in ("vocab_only", "check", "bufts", "no_host", "no_alloc", "load_mtp")]
        )

    def __init__(self) -> None:
        folder = pathlib.Path(xllamacpp.__file__).parent
        self.lib = ctypes.CDLL(glob.glob(str(folder / "xllamacpp*.so"))[0])
        self.log: list[str] = []
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p)
        self.callback = kind(lambda level, text, data: self.log.append(text.decode(errors="replace")))
        self.lib.llama_log_set(self.callback, None)
        self.lib.llama_model_default_params.restype = Reference.Params
        self.lib.llama_model_load_from_file.restype = ctypes.c_void_p
        self.lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Reference.Params]
        self.lib.llama_model_get_vocab.restype = ctypes.c_void_p
        self.lib.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
        self.lib.llama_model_free.argtypes = [ctypes.c_void_p]
        self.lib.llama_vocab_is_eog.restype = ctypes.c_bool
        self.lib.llama_vocab_is_eog.argtypes = [ctypes.c_void_p, ctypes.c_int32]
        self.lib.llama_vocab_n_tokens.argtypes = [ctypes.c_void_p]
        self.lib.llama_tokenize.argtypes = [
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool, ctypes.c_bool,
        ]
        self.lib.llama_backend_init()

    def load(self, path: str) -> int | None:
        self.log.clear()
        params = self.lib.llama_model_default_params()
        params.vocab_only = True
        params.n_gpu_layers = 0
        return self.lib.llama_model_load_from_file(path.encode(), params)

    def free(self, model: int) -> None:
        self.lib.llama_model_free(model)

    def ids(self, model: int, text: str, add_special: bool = False, parse_special: bool = False) -> list[int]:
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 8))()
        vocab = self.lib.llama_model_get_vocab(model)
        n = self.lib.llama_tokenize(vocab, data, len(data), room, len(room), add_special, parse_special)
        assert n >= 0, n
        return list(room[:n])


def write_gguf(path: str, kind: str, pre: str | None, tokens: list[str], merges: list[str], **more: object) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in [("context_length", 64), ("embedding_length", 32), ("block_count", 1), ("feed_forward_length", 32)]:
        writer.add_uint32(f"llama.{name}", value)
    writer.add_uint32("llama.attention.head_count", 1)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_tokenizer_model(kind)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<s") or token == "</s>" else 1 for token in tokens])
    if merges:
        writer.add_token_merges(merges)
    for name, value in more.items():
        writer.add_uint32(f"tokenizer.ggml.{name}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def main() -> None:
    reference = Reference()
    lines = corpus()
    tokens, merges = vocabulary(lines)
    n = len(tokens)
    specials = {"bos_token_id": n - 3, "eos_token_id": n - 2, "seperator_token_id": n - 1}
    sizes = [1] * 256 + [2] * len(merges) + [len(word.encode()) for word in WORDS]
    source = RECIPES.read_text()
    source = source[source.index("const RECIPES"):]
    names = []
    for group in re.findall(r"Recipe::of\(\s*&\[([^\]]*)\]", source):
        names += re.findall(r'"([^"]+)"', group)
    assert len(names) > 60, names
    groups: dict[tuple, list[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            path = os.path.join(scratch, "vocabulary.gguf")
            write_gguf(path, "gpt2", name, tokens, merges, **specials)
            model = reference.load(path)
            if not model:
                print(f"{name}: llama.cpp does not know it: {''.join(reference.log[-3:]).strip()}")
                continue
            theirs = [reference.ids(model, line) for line in lines]
            around = reference.ids(model, "a", add_special=True)
            added = ["bos"] * (around[0] == n - 3) + ["sep"] * (around[-1] == n - 1)
            whole = theirs
            if name in OWN:
                ids = {token: id for id, token in enumerate(tokens)}
                bpe = models.BPE(
                    vocab=ids,
                    merges=[tuple(merge.split(" ")) for merge in merges],
                    ignore_merges=any(id >= 256 + len(merges) for line in theirs for id in line),
                )
                own = tokenizers.Tokenizer(bpe)
                splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in OWN[name]]
                level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
                own.pre_tokenizer = pre_tokenizers.Sequence([*splits, level])
                own.decoder = decoders.ByteLevel()
                whole = [own.encode(line, add_special_tokens=False).ids for line in lines]
                n_other = sum(ours != other for ours, other in zip(whole, theirs))
                print(f"{name}: llama.cpp cuts {n_other} of {len(lines)} lines otherwise than the model's own tokenizer")
            lengths = ["".join(str(sizes[id]) for id in line) for line in whole]
            for line, digits in zip(lines, lengths):
                assert sum(map(int, digits)) == len(line.encode()), (name, line)
            groups.setdefault((tuple(lengths), tuple(added)), []).append(name)
            reference.free(model)
    with open(HERE / "pre_tokenizers.jsonl", "w", encoding="utf-8") as out:
        out.write(json.dumps({"words": WORDS, "corpus": lines}, ensure_ascii=False) + "\n")
        for (lengths, added), alike in groups.items():
            out.write(json.dumps({"names": alike, "adds": added, "lengths": lengths}) + "\n")
    print(len(names), "names,", len(groups), "kinds,", n, "tokens")


if __name__ == "__main__":
    main()
