#!/usr/bin/env python3
"""Hold that the foreign symbols which the project's own sources declare exist: declared.py LIBSYSTEM SYMBOLS FOLDER…

clippy links nothing, so that a misspelt name would come to light in a release build only. A symbol must be reviewed in
SYMBOLS for the library that its block's `#[link]` names, or be libSystem's. What dependencies declare is left to the
linker. LIBSYSTEM is a folder with libSystem.tbd.
"""

import pathlib
import re
import sys

import sdk

BLOCK = re.compile(r'(?P<attributes>(?:#\[[^\]]*\]\s*)*)(?:unsafe\s+)?extern\s+"C(?:-unwind)?"\s*\{(?P<body>[^{}]*)\}')
ITEM = re.compile(r'(?:link_name\s*=\s*"(?P<link>[^"]+)"[^;]*?)?\b(?:fn|static(?:\s+mut)?)\s+(?P<name>\w+)\s*[(:<][^;]*;')
LINK = re.compile(r'link\(\s*name\s*=\s*"([^"]+)"(?:\s*,\s*kind\s*=\s*"(\w+)")?')


def complaints(where: str, text: str, symbols: pathlib.Path, libsystem: frozenset[str]) -> list[str]:
    text = re.sub(r"//[^\n]*", "", text)
    found = []
    for block in BLOCK.finditer(text):
        if 'cfg(target_os = "linux")' in block["attributes"]:
            continue
        libraries = [name if kind == "framework" else f"lib{name}" for name, kind in LINK.findall(block["attributes"])]
        reviewed = {symbol for name in libraries for symbol in sdk.symbols_in(symbols / f"{name}.txt")}
        for item in ITEM.finditer(block["body"]):
            symbol = f"_{item['link'] or item['name']}"
            if symbol not in reviewed | libsystem:
                line = text.count("\n", 0, block.start("body") + item.start("name")) + 1
                place = " or ".join([*libraries, "libSystem"])
                found.append(f"{where}:{line}: undefined symbol: {symbol} is not known of {place}")
    return found


def main(libsystem_folder: str, symbols: str, *folders: str) -> None:
    text = (pathlib.Path(libsystem_folder) / "libSystem.tbd").read_text()
    libsystem = frozenset(re.findall(r"_\w+", text))
    sources = sorted(path for folder in folders for path in pathlib.Path(folder).rglob("*.rs"))
    if not sources:
        sys.exit(f"declared.py: no sources in {', '.join(folders)}")
    found = [line for path in sources for line in complaints(str(path), path.read_text(), pathlib.Path(symbols), libsystem)]
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
