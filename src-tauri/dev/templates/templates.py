"""What Python's Jinja writes, to compare with what Samovar writes.

    python3 -m venv VENV && VENV/bin/pip install -r src-tauri/dev/templates/requirements.txt
    VENV/bin/python src-tauri/dev/templates/templates.py digests           tests/data/templates.digests
    VENV/bin/python src-tauri/dev/templates/templates.py expressions       tests/data/expressions.jsonl
    VENV/bin/python src-tauri/dev/templates/templates.py text TEMPLATE CASE
    VENV/bin/python src-tauri/dev/templates/templates.py diff TEMPLATE CASE FILE
    VENV/bin/python src-tauri/dev/templates/templates.py check FOLDER

The first two write the files of the package `text` again that its tests compare with. `text` prints one rendering and
`diff` compares it with FILE; `check` does so with every file of FOLDER, which are called `TEMPLATE+CASE`: `make families`
has all of them written there. The templates
are those of the reference's source package, see `make reference`; SAMOVAR_TEST_REFERENCE says where they are.
"""

import difflib
import functools
import json
import os
import struct
import sys
from pathlib import Path

import blake3
import python_jinja

DATA = Path(__file__).parents[2] / "crates/text/tests/data"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "samovar-dev/reference-0.3.36"
REFERENCE = Path(os.environ.get("SAMOVAR_TEST_REFERENCE") or CACHE)


def main(arguments):
    match arguments:
        case ["digests"]:
            write_digests(DATA / "templates.digests")
        case ["expressions"]:
            write_expressions(DATA / "expressions.jsonl")
        case ["text", template, case]:
            kind, text = cases().render(sources()[template], case)
            sys.stdout.write(text if kind == "text" else f"{kind}: {text}\n")
        case ["diff", template, case, file]:
            sys.exit(0 if compare(template, case, Path(file)) else 1)
        case ["check", folder]:
            files = sorted(Path(folder).iterdir())
            different = [file.name for file in files if not compare(*file.name.rsplit("+", 1), file)]
            print(f"{len(files)} renderings compared with Python's, {len(different)} differ")
            sys.exit(1 if different or not files else 0)
        case _:
            sys.exit(__doc__)


@functools.cache
def sources():
    """Every template by its name: the files' own, and those that vocabularies carry."""
    found = {file.stem: file.read_bytes().decode() for file in (REFERENCE / "templates").glob("*.jinja")}
    for file in (REFERENCE / "vocabularies").glob("*.gguf"):
        template = chat_template(file)
        if template is not None:
            found[file.stem] = template
    if not found:
        sys.exit(f"no templates in {REFERENCE}; run `make reference`")
    return dict(sorted(found.items()))


@functools.cache
def cases():
    return Cases()


class Cases:
    """The chats that each template is tried with, without and with a generation prompt."""

    def __init__(self):
        self.file = json.loads((DATA / "template_cases.json").read_text(encoding="utf-8"))
        self.by_name = {}
        for case in self.file["cases"]:
            for ending, prompt in (("", False), (".prompt", True)):
                variables = case.get("variables", {})
                tools = self.file["tools"] if case.get("tools") else None
                self.by_name[case["name"] + ending] = {
                    "messages": case["messages"], "tools": tools, "documents": None,
                    "add_generation_prompt": prompt, **variables,
                }

    def render(self, source, name):
        variables = json.loads(json.dumps(self.by_name[name]))
        return python_jinja.render(source, self.file["clock"], variables)


def write_digests(path):
    lines = []
    for template, source in sources().items():
        lines.append(f"= {template} {digest(source)}")
        for case in cases().by_name:
            kind, text = cases().render(source, case)
            match kind:
                case "text":
                    lines.append(f"{case} {len(text.encode())} {digest(text)}")
                case "refused":
                    lines.append(f"{case} refused {json.dumps(text, ensure_ascii=False)}")
                case _:
                    lines.append(f"{case} failed")
                    print(f"{template} {case}: {text}", file=sys.stderr)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path}: {len(lines)} lines")


def write_expressions(path):
    """Each line after the first, which has the variables, is [source, what Python writes or null where it fails]."""
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    head = json.loads(first)
    out = [first]
    for line in lines:
        source = json.loads(line)[0]
        variables = {"messages": [], "tools": None, "documents": None, "add_generation_prompt": False}
        variables |= json.loads(first)["variables"]
        kind, text = python_jinja.render(source, head["clock"], variables)
        out.append(json.dumps([source, text if kind == "text" else None], ensure_ascii=False))
        if kind != "text":
            print(f"{source}: {text}", file=sys.stderr)
    path.write_text("\n".join(out) + "\n", encoding="utf-8")
    print(f"{path}: {len(lines)} expressions")


def compare(template, case, file):
    """Prints how FILE differs from Python's rendering, and whether it does not."""
    kind, text = cases().render(sources()[template], case)
    theirs = text if kind == "text" else f"{kind}: {text}\n"
    ours = file.read_text(encoding="utf-8")
    # How Python words what it cannot do is its own.
    if ours == theirs or (kind == "failed" and ours.startswith("failed: ")):
        return True
    lines = difflib.unified_diff(
        theirs.splitlines(keepends=True), ours.splitlines(keepends=True), f"python/{template}", f"ours/{case}"
    )
    sys.stdout.writelines(line if line.endswith("\n") else line + "⏎\n" for line in lines)
    return False


def digest(text):
    # Sixteen digits tell any two texts here apart, and nobody makes them collide.
    return blake3.blake3(text.encode()).hexdigest()[:16]


def chat_template(path):
    """The template in a GGUF file's metadata, or None."""
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    with path.open("rb") as file:

        def number(kind):
            return struct.unpack("<" + kind, file.read(struct.calcsize(kind)))[0]

        def value(kind):
            if kind == 8:
                return file.read(number("Q"))
            if kind == 9:
                inner, n = number("I"), number("Q")
                if inner in sizes:
                    return file.seek(n * sizes[inner], os.SEEK_CUR)
                for _ in range(n):
                    value(inner)
                return None
            return file.read(sizes[kind])

        assert file.read(4) == b"GGUF"
        _version, _n_tensors, n_values = number("I"), number("Q"), number("Q")
        for _ in range(n_values):
            key = file.read(number("Q"))
            held = value(number("I"))
            if key == b"tokenizer.chat_template":
                return held.decode()
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
