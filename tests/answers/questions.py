"""What is asked, and the rule by which each answer is judged right. No rule looks at how an answer was made."""

import json
import re
from dataclasses import dataclass
from typing import Callable


@dataclass(frozen=True)
class Question:
    name: str
    text: str
    # The rule in words, for the table.
    rule: str
    is_right: Callable[[str], bool]
    max_tokens: int = 64


def first_sentence(answer: str) -> str:
    return re.split(r"(?<=[.!?])\s|\n", answer.strip(), maxsplit=1)[0]


def names(name: str, text: str, word: str) -> Question:
    """A plain question: the first sentence of the answer has the word."""
    pattern = re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)
    rule = f"the first sentence has “{word}”"
    return Question(name, text, rule, lambda answer: bool(pattern.search(first_sentence(answer))))


def copies(name: str, text: str, wanted: str) -> Question:
    """A copy task: the answer has the text, character for character."""
    return Question(name, text, f"the answer has “{wanted}” letter by letter", lambda answer: wanted in answer)


README = names("capital of Japan", "What is the capital of Japan?", "Tokyo")

PLAIN = [
    README,
    names("capital of France", "What is the capital of France?", "Paris"),
    names("author of Hamlet", "Who wrote Hamlet?", "Shakespeare"),
]

COPIES = [
    copies(
        "sentence",
        "Repeat this sentence exactly: The quick brown fox jumps over the lazy dog.",
        "The quick brown fox jumps over the lazy dog.",
    ),
    copies("names", "Repeat this list exactly: Ann, Bob, Carla, Dmitri.", "Ann, Bob, Carla, Dmitri"),
    copies("code", "Repeat this line of code exactly: print(total / count)", "print(total / count)"),
    copies("number", "Repeat this number exactly: 4815162342", "4815162342"),
    copies("address", "Repeat this address exactly: 12 Mill Lane, Cambridge", "12 Mill Lane, Cambridge"),
    copies("refrain", "Repeat exactly: row, row, row your boat", "row, row, row your boat"),
]

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
LIST = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"type": "string"}}},
    "required": ["items"],
    "additionalProperties": False,
}



def n_ended(choices: list[dict]) -> int:
    """How many of these answers ended by themselves."""
    return sum(choice["finish_reason"] == "stop" for choice in choices)


def ends(text: str) -> Question:
    return Question(text, text, "it ends by itself", lambda answer: True, 256)


# Lists whose end no schema sets. The first says what belongs in it; where a model has to think of more, a small one
# now and then goes on for ever, with or without a schema, and only `max_tokens` ends that.
LISTS = [
    ends("Ann buys milk, eggs and bread. Extract what she buys as a JSON list."),
    ends("The bag holds a pen, a book and a key. Extract the items as JSON."),
    ends("List three fruits as JSON."),
    ends("List the days of the week as JSON."),
]

# Asked beside llama.cpp only.
MORE_LISTS = [
    ends("Name the colors of the rainbow as a JSON list."),
    ends("List the ingredients of a pancake as JSON."),
]

# Ten people to be read out of a sentence.
PEOPLE = [
    ("Ann is 30 years old.", "Ann", 30),
    ("Bob is 41 years old.", "Bob", 41),
    ("Carla is 25 years old.", "Carla", 25),
    ("Maria is 19 years old.", "Maria", 19),
    ("Tom is 52 years old.", "Tom", 52),
    ("Peter is 63 years old.", "Peter", 63),
    ("Lucy is 8 years old.", "Lucy", 8),
    ("David is 37 years old.", "David", 37),
    ("Emma is 22 years old.", "Emma", 22),
    ("Jack is 74 years old.", "Jack", 74),
]


def extraction(sentence: str, name: str, age: int) -> Question:
    def is_right(answer: str) -> bool:
        try:
            return json.loads(answer) == {"name": name, "age": age}
        except ValueError:
            return False

    text = f"{sentence} Extract the name and the age as JSON."
    return Question(f"extract {name}", text, f"the document is {name} and {age}", is_right)
