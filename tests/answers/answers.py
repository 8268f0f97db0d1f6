"""Counts right answers of requests that set no sampling, over many seeds, and beside llama.cpp.

    python tests/answers/answers.py --bin target/release/samovar --model path/to/SmolLM2-135M-Instruct.Q4_1.gguf

Four tables: the README's first question; people read out of sentences into a strict schema; a list under a schema
that sets it no bound, which must end by itself; plain questions, copy tasks and lists beside llama.cpp with the same
temperature, top-p, min-p and schema and no penalty. `questions.py` has every question with the rule by which its answers are
judged. Exits with 0 only when each table keeps what it promises.
Without --reference only the standard library is needed; with it, the packages of tests/answers/requirements.txt.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from server import Server  # noqa: E402 (found beside this folder, not in a package)

from questions import COPIES, LIST, LISTS, MORE_LISTS, PEOPLE, PERSON, PLAIN, README, Question, extraction, n_ended  # noqa: E402

# What a table must have to be kept, in a hundred.
README_RIGHT = 95
POINTS_BEHIND = 10
# Answers to each extraction, and to each list.
N_EXTRACTIONS = 10
N_LISTS = 50
AT_ONCE = 12


class Samovar:
    """A server of this program's own, asked without a word about sampling."""

    def __init__(self, binary: str, model: str, data_dir: str) -> None:
        self.server = Server(binary, model, data_dir, ["--store", "off", "--kv-pool", "256MiB"])

    def choice(self, question: Question, seed: int, schema: dict | None) -> dict:
        body = {
            "messages": [{"role": "user", "content": question.text}],
            "seed": seed,
            "max_tokens": question.max_tokens,
        }
        if schema is not None:
            json_schema = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": json_schema}
        status, _, answer = self.server.ask("POST", "/v1/chat/completions", body)
        if status != 200:
            raise SystemExit(f"{question.name}: status {status}: {answer}")
        return answer["choices"][0]

    def choices(self, question: Question, seeds: range, schema: dict | None = None) -> list[dict]:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(lambda seed: self.choice(question, seed, schema), seeds))

    def n_right(self, question: Question, seeds: range, schema: dict | None = None) -> int:
        choices = self.choices(question, seeds, schema)
        return sum(question.is_right(choice["message"]["content"]) for choice in choices)

    def sampling(self) -> dict[str, float]:
        """What it samples with by default, as it says itself."""
        chosen = self.server.status()["model"]["sampling"]
        return {field: entry["value"] for field, entry in chosen.items()}


def readme(samovar: Samovar, seeds: int) -> bool:
    right = samovar.n_right(README, range(seeds))
    print(f"The README's first question, “{README.text}” ({README.rule}): {right} of {seeds} right.")
    return right * 100 >= README_RIGHT * seeds


def extractions(samovar: Samovar) -> bool:
    print(f"\nA name and an age into a strict schema, {N_EXTRACTIONS} seeds each; the first must be right always:\n")
    print("| Sentence | Right |\n|---|---|")
    rights = []
    for person in PEOPLE:
        rights.append(samovar.n_right(extraction(*person), range(N_EXTRACTIONS), PERSON))
        print(f"| {person[0]} | {rights[-1]} |", flush=True)
    return rights[0] == N_EXTRACTIONS


def lists(samovar: Samovar) -> bool:
    print("\nA list under a schema without a bound; the first must always end by itself:\n")
    print("| Question | Ended by itself |\n|---|---|")
    ended = []
    for question in LISTS:
        choices = samovar.choices(question, range(N_LISTS), LIST)
        ended.append(n_ended(choices))
        print(f"| {question.text} | {ended[-1]} of {N_LISTS} |", flush=True)
    return ended[0] == N_LISTS


def beside_llama_cpp(samovar: Samovar, model: str, seeds: int) -> bool:
    from reference import Reference

    reference = Reference(model, os.cpu_count() or 1)
    sampling = samovar.sampling()
    print(f"\nBeside llama.cpp with {sampling}, {seeds} seeds each:\n")
    print("| Question | Right is | Samovar | llama.cpp |\n|---|---|---|---|")
    kept = True
    for question in PLAIN + COPIES:
        ours = samovar.n_right(question, range(seeds))
        answers = reference.answers(question.text, seeds, question.max_tokens, sampling)
        theirs = sum(question.is_right(answer) for answer in answers)
        print(f"| {question.text} | {question.rule} | {ours} | {theirs} |", flush=True)
        kept = kept and (theirs - ours) * 100 <= POINTS_BEHIND * seeds
    # Under the same schema; where a small model does not end such a list here, it does not end it there.
    for question in LISTS + MORE_LISTS:
        ours = n_ended(samovar.choices(question, range(N_LISTS), LIST))
        theirs = n_ended(reference.choices(question.text, N_LISTS, question.max_tokens, sampling, LIST))
        print(f"| {question.text} | {question.rule}, of {N_LISTS} | {ours} | {theirs} |", flush=True)
        kept = kept and (theirs - ours) * 100 <= POINTS_BEHIND * N_LISTS
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the samovar binary")
    parser.add_argument("--model", required=True, help="a GGUF file with a chat template")
    parser.add_argument("--seeds", type=int, default=100, help="answers to each question")
    parser.add_argument("--reference", action="store_true", help="ask llama.cpp the same")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        samovar = Samovar(arguments.bin, arguments.model, data)
        try:
            samovar.server.wait_until_ready()
            kept = [readme(samovar, arguments.seeds), extractions(samovar), lists(samovar)]
            if arguments.reference:
                kept.append(beside_llama_cpp(samovar, arguments.model, arguments.seeds))
        finally:
            samovar.server.kill()
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
