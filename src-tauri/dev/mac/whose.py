#!/usr/bin/env python3
"""For the review of new symbols: where the dependencies declare each, and which library they take it from.

    make dmg 2>&1 | whose.py          or          whose.py _CFRelease _NSApp

Reads symbols from the linker's complaints or the arguments and prints `library  symbol  # where it is declared`.
What it prints is the bindings' word, which a person compares with Apple's documentation before the line goes into
symbols/LIBRARY.txt.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
LINK = re.compile(r'#\[\s*(?:cfg_attr\([^\]]*?)?link\(\s*name\s*=\s*"([^"]+)"(?:\s*,\s*kind\s*=\s*"(\w+)")?')


def packages() -> dict[str, pathlib.Path]:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    command += ["--filter-platform", "aarch64-apple-darwin"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout)
    return {f"{p['name']}-{p['version']}": pathlib.Path(p["manifest_path"]).parent for p in found["packages"]}


def library(before: str, crate: str) -> str:
    """The nearest `#[link]` above the declaration, else whatever the whole crate links to."""
    links = LINK.findall(before) or LINK.findall(crate)
    names = {name if kind == "framework" else f"lib{name}" for name, kind in (links[-1:] if LINK.search(before) else links)}
    return "|".join(sorted(names)) or "?"


def main() -> None:
    text = " ".join(sys.argv[1:]) or "\n".join(re.findall(r"undefined symbol: (\S+)", sys.stdin.read()))
    symbols = sorted({word for word in text.split() if word.startswith("_")})
    if not symbols:
        sys.exit("no symbols given, and the linker complained of none")
    declared = re.compile(r"\b(?:fn|static(?:\s+mut)?)\s+(" + "|".join(re.escape(s[1:]) for s in symbols) + r")\b")
    named = re.compile(r'link_name\s*=\s*"_?(' + "|".join(re.escape(s[1:]) for s in symbols) + r')"')
    found: dict[str, set[str]] = {symbol: set() for symbol in symbols}
    for name, folder in packages().items():
        files = {path: path.read_text(errors="replace") for path in folder.glob("src/**/*.rs")}
        hits = [(path, hit) for path, text in files.items() for p in (declared, named) for hit in p.finditer(text)]
        crate = "\n".join(files.values()) if hits else ""
        for path, hit in hits:
            text = files[path]
            line = text.count("\n", 0, hit.start()) + 1
            where = f"{name}/{path.relative_to(folder)}:{line}"
            found[f"_{hit[1]}"].add(f"{library(text[: hit.start()], crate):<24}_{hit[1]}  # {where}")
    for symbol, lines in found.items():
        print("\n".join(sorted(lines)) or f"{'?':<24}{symbol}  # declared nowhere: a misspelling, or C code's")


if __name__ == "__main__":
    main()
