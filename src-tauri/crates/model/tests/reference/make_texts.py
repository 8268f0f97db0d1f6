"""Makes the long texts of texts/: `python make_texts.py MODEL.gguf`, with llama-cpp-python installed.

long_story.txt   sampled from SmolLM2 itself, with a fixed seed
long_table.txt   an inventory that a small generator prints
long_code.txt    this project's own KV layout, as it was when the vectors were made
The other texts are written by hand. All of them are free to copy.
"""

import random
import sys
from pathlib import Path

from llama_cpp import Llama

HERE = Path(__file__).parent
TEXTS = HERE / "texts"


def story(model: str) -> str:
    llama = Llama(model, n_ctx=4096, seed=7, verbose=False, n_threads=2)
    parts = []
    for prompt in [
        "Write a long story about a clockmaker who repairs a strange clock.",
        "Explain how bridges are built, in great detail, for a curious child.",
        "Describe a walk through a harbour town in the morning, hour by hour.",
        "Write a conversation between a teacher and a pupil about the stars.",
    ]:
        answer = llama.create_chat_completion(
            [{"role": "user", "content": prompt}], max_tokens=620, temperature=0.9, top_p=0.95, repeat_penalty=1.1
        )
        parts.append(f"# {prompt}\n\n{answer['choices'][0]['message']['content'].strip()}\n")
    return "\n".join(parts)


def table() -> str:
    rng = random.Random(11)
    goods = ["bolts", "nuts", "hinges", "brackets", "washers", "screws", "anchors", "clamps", "dowels", "rivets"]
    metals = ["steel", "brass", "zinc", "copper"]
    towns = ["Leeds", "Porto", "Graz", "Turku", "Lyon"]
    lines = ["# Stock at the end of the quarter", "", "id;item;size;count;price;shelf;town"]
    for number in range(1, 61):
        item = f"{rng.choice(metals)} {rng.choice(goods)}"
        price = rng.randint(20, 950) / 100
        lines.append(
            f"{number:03};{item};M{rng.choice([3, 4, 5, 6, 8, 10])};{rng.randint(1, 40) * 25};{price:.2f};"
            f"{rng.choice('ABCDEF')}{rng.randint(1, 9)};{rng.choice(towns)}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    scheduler = HERE.parents[2] / "scheduler" / "src"
    code = (scheduler / "kv_layout.rs").read_text() + "\n" + (scheduler / "cache_spec.rs").read_text()
    (TEXTS / "long_code.txt").write_text(code)
    (TEXTS / "long_table.txt").write_text(table())
    (TEXTS / "long_story.txt").write_text(story(sys.argv[1]))


if __name__ == "__main__":
    main()
