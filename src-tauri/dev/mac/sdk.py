#!/usr/bin/env python3
"""Write the parts of a macOS SDK that a linker reads: sdk.py LIBSYSTEM SYMBOLS OUT

LIBSYSTEM is a folder with libSystem.tbd; SYMBOLS has one file of reviewed symbols for each framework or library.
A framework without such a file can be named to the linker and exports nothing.
"""

import json
import pathlib
import re
import sys

MACOS = "13.0"
TARGETS = "[ arm64-macos ]"
# Frameworks that crates name on the linker's command line; most of them without using a symbol.
FRAMEWORKS = """
    Accelerate AppKit ApplicationServices AVFoundation Carbon CFNetwork CloudKit Cocoa ColorSync CoreData
    CoreFoundation CoreGraphics CoreImage CoreLocation CoreServices CoreText CoreVideo Foundation IOKit IOSurface Metal
    MetalKit MetalPerformanceShaders Network QuartzCore Security ServiceManagement SystemConfiguration
    UniformTypeIdentifiers UserNotifications WebKit
""".split()
LIBRARIES = {"objc": "libobjc.A.dylib", "iconv": "libiconv.2.dylib", "c++": "libc++.1.dylib", "z": "libz.1.dylib"}
# Umbrellas: who names the one gets the others' symbols, and what is linked then loads the others themselves.
UMBRELLAS = {"ApplicationServices": ["ColorSync"], "Carbon": ["CoreServices"], "Foundation": ["CFNetwork"]}
FRAMEWORK_VERSIONS = {"AppKit": "C", "Foundation": "C"}
LIBSYSTEM_NAMES = ("c", "m", "pthread", "dl", "System.B")


def symbols_in(path: pathlib.Path) -> list[str]:
    """One symbol a line; what follows a # is a reader's."""
    if not path.exists():
        return []
    lines = (line.split("#", 1)[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def stub(install_name: str, symbols: list[str], others: list[str] | None = None) -> str:
    reexported = ", ".join(f"'{framework_install_name(name)}'" for name in others or [])
    exports = ", ".join(f"'{symbol}'" for symbol in sorted(symbols))
    return "\n".join(
        [
            "--- !tapi-tbd",
            "tbd-version: 4",
            f"targets: {TARGETS}",
            f"install-name: '{install_name}'",
            "current-version: 1",
            "compatibility-version: 1",
            *([f"reexported-libraries:\n  - targets: {TARGETS}\n    libraries: [ {reexported} ]"] if others else []),
            *([f"exports:\n  - targets: {TARGETS}\n    symbols: [ {exports} ]"] if symbols else []),
            "...\n",
        ]
    )


def framework_install_name(name: str) -> str:
    version = FRAMEWORK_VERSIONS.get(name, "A")
    return f"/System/Library/Frameworks/{name}.framework/Versions/{version}/{name}"


def libsystem(text: str) -> str:
    """The list as ld64.lld 19 can read it: it knows no arm64e variants, and their symbols are arm64's."""
    text = re.sub(r",\s*arm64e\.x1-(?:macos|maccatalyst)", "", text)
    text = re.sub(r"arm64e\.x1-(?:macos|maccatalyst)\s*,\s*", "", text)
    return text.replace("arm64e-", "arm64-")


def write(path: pathlib.Path, text: str) -> None:
    """Only if it differs: build scripts and cargo look at the time."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def link(path: pathlib.Path, to: pathlib.Path) -> None:
    if not path.is_symlink():
        path.unlink(missing_ok=True)
        path.symlink_to(to.relative_to(path.parent))


def main(libsystem_folder: str, symbols_folder: str, out: str) -> None:
    sdk, symbols = pathlib.Path(out), pathlib.Path(symbols_folder)
    known = {*FRAMEWORKS, *(f"lib{name}" for name in LIBRARIES)}
    strangers = {path.stem for path in symbols.glob("*.txt")} - known
    if strangers:
        sys.exit(f"sdk.py: symbols/ has files of libraries it does not know: {', '.join(sorted(strangers))}")
    settings = {"CanonicalName": f"macosx{MACOS}", "DisplayName": f"macOS {MACOS}"}
    settings |= {"MaximumDeploymentTarget": f"{MACOS}.99", "Version": MACOS}
    write(sdk / "SDKSettings.json", json.dumps(settings))
    for name in FRAMEWORKS:
        path = sdk / f"{framework_install_name(name).removeprefix('/')}.tbd"
        reviewed = symbols_in(symbols / f"{name}.txt")
        write(path, stub(framework_install_name(name), reviewed, UMBRELLAS.get(name)))
        # As in Apple's: `-framework` looks at the one path and an umbrella names the other.
        link(path.parents[2] / path.name, path)
    for name, file in LIBRARIES.items():
        write(sdk / f"usr/lib/lib{name}.tbd", stub(f"/usr/lib/{file}", symbols_in(symbols / f"lib{name}.txt")))
    text = libsystem((pathlib.Path(libsystem_folder) / "libSystem.tbd").read_text())
    for name in ("System", *LIBSYSTEM_NAMES):
        write(sdk / f"usr/lib/lib{name}.tbd", text)


if __name__ == "__main__":
    main(*sys.argv[1:])
