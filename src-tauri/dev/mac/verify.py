#!/usr/bin/env python3
"""Read a signed app or disk image back from its bytes, hold it against what it must be, and print a report.

    verify.py APP_OR_DMG --entitlements FILE [--symbols FOLDER] [--version VERSION] [--loads FRAMEWORK …]

What is checked with programs that had no part in making it: the image's files by 7z, the signatures by openssl, the
imports by llvm-nm. The rest is read here: the image's checksums and its signature's hashes, every page of code, every
sealed file, the property list, the entitlements, the load commands.
Exits with 1, and says why, at the first thing that is not as it must be. It cannot say whether macOS trusts the signer.
"""

import argparse
import hashlib
import os
import pathlib
import plistlib
import struct
import subprocess
import sys
import tempfile
import zlib

import sdk
import udif

SYSTEM_LIBRARIES = ("/System/Library/Frameworks/", "/usr/lib/")
RUNTIME = 0x10000
SLOT_INFO, SLOT_REQUIREMENTS, SLOT_RESOURCES, SLOT_ENTITLEMENTS, SLOT_IMAGE, SLOT_DER_ENTITLEMENTS = 1, 2, 3, 5, 6, 7
BLOB_SIGNATURE = 0x10000
LC_DYLIBS = {0xC: "load", 0x80000018: "weak", 0x8000001F: "re-export", 0x20: "lazy", 0x80000023: "upward"}
LC_SEGMENT, LC_SIGNATURE, LC_RPATH, LC_BUILD_VERSION, LC_MAIN = 0x19, 0x1D, 0x8000001C, 0x32, 0x80000028
MH_EXECUTE, MH_PIE, CPU_ARM64, PLATFORM_MACOS = 2, 0x200000, 0x0100000C, 1
ICON_SIZES = {b"ic07", b"ic08", b"ic09", b"ic10"}


class Refused(Exception):
    """What was found, in one line."""


def need(condition: bool, what: str) -> None:
    if not condition:
        raise Refused(what)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def run(*command: str | os.PathLike, what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    need(done.returncode == 0, f"{what}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Signature:
    """A superblob: the code directory, what it hashes, and the CMS signature over it."""

    def __init__(self, data: bytes):
        magic, _, count = struct.unpack_from(">III", data)
        need(magic == 0xFADE0CC0, "the code signature is not a superblob")
        self.blobs = {}
        for index in range(count):
            kind, offset = struct.unpack_from(">II", data, 12 + 8 * index)
            (length,) = struct.unpack_from(">I", data, offset + 4)
            self.blobs[kind] = data[offset : offset + length]
        directory = self.directory = self.blobs[0]
        (magic, _, _, self.flags, self.hashes, name, self.n_special, self.n_pages, self.limit) = struct.unpack_from(
            ">9I", directory
        )
        size, kind, _, self.page_bits = directory[36:40]
        need(magic == 0xFADE0C02 and (size, kind) == (32, 2), "the code directory does not use SHA-256")
        self.identifier = directory[name : directory.index(b"\0", name)].decode()

    def check_code(self, data: bytes, end: int) -> None:
        """Every page up to `end`; a page size of none hashes all of it at once."""
        need(self.limit == end, f"the signature covers {self.limit} bytes of {end}")
        page = 1 << self.page_bits if self.page_bits else max(end, 1)
        need(self.n_pages == -(-end // page), "the signature lacks pages")
        for index in range(self.n_pages):
            want = self.directory[self.hashes + 32 * index :][:32]
            found = sha256(data[index * page : min((index + 1) * page, end)])
            need(found == want, f"page {index} of {self.n_pages} differs from the signature")

    def check_special(self, slot: int, content: bytes, what: str) -> None:
        need(slot <= self.n_special, f"{what}: not sealed by the signature")
        at = self.hashes - 32 * slot
        need(self.directory[at : at + 32] == sha256(content), f"{what}: differs from the signature")

    def check_blobs(self) -> None:
        """Every slot that stands for a blob in the signature itself, in both directions."""
        for slot in (SLOT_REQUIREMENTS, SLOT_ENTITLEMENTS, SLOT_DER_ENTITLEMENTS):
            at = self.hashes - 32 * slot
            claimed = slot <= self.n_special and self.directory[at : at + 32] != bytes(32)
            need(claimed == (slot in self.blobs), f"slot {slot}: sealed and present do not agree")
            if slot in self.blobs:
                self.check_special(slot, self.blobs[slot], f"slot {slot}")

    def entitlements(self) -> dict:
        return plistlib.loads(self.blobs[SLOT_ENTITLEMENTS][8:]) if SLOT_ENTITLEMENTS in self.blobs else {}

    def signer(self) -> str:
        """Check the CMS signature over the code directory; say whose certificate it carries."""
        cms = self.blobs.get(BLOB_SIGNATURE, b"")[8:]
        need(len(cms) > 0, "there is no signature over the code directory")
        with tempfile.TemporaryDirectory() as folder:
            signature, content, signer = (pathlib.Path(folder) / name for name in ("cms", "content", "signer"))
            signature.write_bytes(cms)
            content.write_bytes(self.directory)
            command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", signature, "-content", content]
            run(*command, "-noverify", "-signer", signer, "-out", os.devnull, what="the signature")
            subject = run("openssl", "x509", "-in", signer, "-noout", "-subject", what="the certificate")
        return subject.strip().removeprefix("subject=").strip()


class Executable:
    """A thin arm64 Mach-O executable."""

    def __init__(self, data: bytes):
        self.data = data
        magic, cpu, _, kind, n_commands, _, flags = struct.unpack_from("<7I", data)
        need(magic == 0xFEEDFACF and cpu == CPU_ARM64 and kind == MH_EXECUTE, "not an arm64 executable")
        need(bool(flags & MH_PIE), "not position-independent")
        self.libraries, self.build, self.signature_at, has_main = [], None, None, False
        at = 32
        for _ in range(n_commands):
            command, size = struct.unpack_from("<II", data, at)
            if command in LC_DYLIBS:
                (name,) = struct.unpack_from("<I", data, at + 8)
                path = data[at + name : at + size].split(b"\0", 1)[0].decode()
                self.libraries.append((LC_DYLIBS[command], path))
            elif command == LC_RPATH:
                raise Refused("it has a search path for libraries")
            elif command == LC_BUILD_VERSION:
                self.build = struct.unpack_from("<III", data, at + 8)
            elif command == LC_SIGNATURE:
                self.signature_at = struct.unpack_from("<II", data, at + 8)
            elif command == LC_SEGMENT:
                name = data[at + 8 : at + 24].rstrip(b"\0").decode()
                maximum, initial = struct.unpack_from("<II", data, at + 56)
                need((maximum | initial) & 6 != 6, f"segment {name} is both writable and executable")
            has_main |= command == LC_MAIN
            at += size
        need(has_main, "it has no entry point")
        need(self.build is not None and self.build[0] == PLATFORM_MACOS, "it does not say that it is for macOS")
        need(self.signature_at is not None, "it is not signed")
        for _, path in self.libraries:
            need(path.startswith(SYSTEM_LIBRARIES), f"it loads {path}, which is not the system's")

    def signature(self) -> Signature:
        start, size = self.signature_at
        need(start + size == len(self.data), "bytes follow the signature")
        signature = Signature(self.data[start : start + size])
        signature.check_code(self.data, start)
        return signature

    @staticmethod
    def version(packed: int) -> str:
        return f"{packed >> 16}.{packed >> 8 & 255}"


def check_imports(path: pathlib.Path, symbols: pathlib.Path) -> list[str]:
    """Every import is libSystem's or reviewed for the library it comes from."""
    report = {}
    for line in run("llvm-nm-19", "-m", "--undefined-only", path, what="llvm-nm").splitlines():
        symbol, _, library = line.rpartition(" (from ")
        symbol, library = symbol.split()[-1], library.removesuffix(")")
        need(bool(library) and library not in ("dynamically looked up", "flat-namespace"), f"{symbol} is from nowhere")
        report.setdefault(library, []).append(symbol)
    for library, found in report.items():
        if library == "libSystem":
            continue
        reviewed = set(sdk.symbols_in(symbols / f"{library.removesuffix('.A').removesuffix('.1')}.txt"))
        unknown = sorted(set(found) - reviewed)
        need(not unknown, f"symbols of {library} that nobody has reviewed: {', '.join(unknown)}")
    return [f"imports from {library}: {len(found)}" for library, found in sorted(report.items())]


def check_resources(contents: pathlib.Path, executable: str) -> int:
    """Every file below Contents is sealed, unchanged and expected."""
    seal = plistlib.loads((contents / "_CodeSignature/CodeResources").read_bytes())["files2"]
    for name, entry in seal.items():
        path = contents / name
        need(path.exists() or path.is_symlink(), f"{name}: sealed and missing")
        if "symlink" in entry:
            need(path.is_symlink() and os.readlink(path) == entry["symlink"], f"{name}: another link than was sealed")
        else:
            need("hash2" in entry, f"{name}: sealed without a hash")
            need(not path.is_symlink() and sha256(path.read_bytes()) == entry["hash2"], f"{name}: differs from its seal")
    # The code directory seals these two, and the last holds the seals.
    elsewhere = {"Info.plist", f"MacOS/{executable}", "_CodeSignature/CodeResources"}
    for folder, _, files in os.walk(contents):
        for file in files:
            name = os.path.relpath(os.path.join(folder, file), contents)
            need(name in seal or name in elsewhere, f"{name}: not sealed")
    return len(seal)


def check_info(info: dict, resources: pathlib.Path, version: str | None) -> None:
    must = {"LSUIElement": True, "NSSupportsAutomaticTermination": False, "NSSupportsSuddenTermination": False}
    for key, value in must.items():
        need(info.get(key) is value, f"Info.plist: {key} is {info.get(key)!r} and must be {value}")
    for key in ("CFBundleIdentifier", "CFBundleName", "LSApplicationCategoryType", "LSMinimumSystemVersion"):
        need(bool(info.get(key)), f"Info.plist: {key} is missing")
    if version is not None:
        need(info["CFBundleShortVersionString"] == version, f"Info.plist: version {info['CFBundleShortVersionString']}")
    icon = (resources / info["CFBundleIconFile"]).read_bytes()
    need(icon[:4] == b"icns" and struct.unpack_from(">I", icon, 4)[0] == len(icon), "the icon is not an icon set")
    kinds, at = set(), 8
    while at < len(icon):
        kinds.add(icon[at : at + 4])
        at += max(8, struct.unpack_from(">I", icon, at + 4)[0])
    need(ICON_SIZES <= kinds, "the icon lacks sizes")


def check_app(app: pathlib.Path, arguments: argparse.Namespace) -> list[str]:
    contents = app / "Contents"
    raw_info = (contents / "Info.plist").read_bytes()
    info = plistlib.loads(raw_info)
    path = contents / "MacOS" / info["CFBundleExecutable"]
    need(os.access(path, os.X_OK), "the executable is not executable")
    executable = Executable(path.read_bytes())
    signature = executable.signature()
    signature.check_blobs()
    signature.check_special(SLOT_INFO, raw_info, "Info.plist")
    signature.check_special(
        SLOT_RESOURCES, (contents / "_CodeSignature/CodeResources").read_bytes(), "the list of sealed files"
    )
    n_sealed = check_resources(contents, info["CFBundleExecutable"])
    check_info(info, contents / "Resources", arguments.version)
    need(bool(signature.flags & RUNTIME), "the hardened runtime is off")
    need(signature.identifier == info["CFBundleIdentifier"], f"signed as {signature.identifier}")
    want = plistlib.loads(arguments.entitlements.read_bytes())
    need(signature.entitlements() == want, f"entitlements {signature.entitlements()}, and they must be {want}")
    loaded = {pathlib.PurePath(library).name for _, library in executable.libraries}
    for framework in arguments.loads:
        need(framework in loaded, f"it does not load {framework}: another build than the one that is shipped")
    minimum = Executable.version(executable.build[1])
    need(minimum == info["LSMinimumSystemVersion"], f"built for macOS {minimum}, not {info['LSMinimumSystemVersion']}")
    return [
        f"app: {info['CFBundleIdentifier']} {info['CFBundleShortVersionString']}, {path.stat().st_size:,} bytes of code",
        f"minimum macOS: {minimum}, built against {Executable.version(executable.build[2])}, arm64, position-independent",
        f"code signature: {signature.n_pages} pages, {n_sealed} sealed files, hardened runtime (flags {signature.flags:#x})",
        f"entitlements: {', '.join(want) or 'none'}",
        f"signer of the app: {signature.signer()}",
        *(f"{kind}: {library}" for kind, library in executable.libraries),
        *(check_imports(path, arguments.symbols) if arguments.symbols else []),
    ]


def unpack_image(data: bytes) -> tuple[bytes, udif.Trailer]:
    """The volume of a disk image whose checksums are all right."""
    try:
        trailer = udif.Trailer.unpack(data[-512:])
        plist = plistlib.loads(data[trailer.plist_offset :][: trailer.plist_bytes])
        (partition,) = plist["resource-fork"]["blkx"]
    except (ValueError, KeyError, struct.error, plistlib.InvalidFileException) as error:
        raise Refused(f"the image cannot be read: {error}") from error
    table = partition["Data"]
    need(udif.checksum(zlib.crc32(data[: trailer.data_bytes])) == trailer.data_checksum, "the image's data: checksum")
    *_, want, count = udif.TABLE.unpack_from(table)
    volume = bytearray()
    for index in range(count):
        kind, _, first, sectors, offset, size = udif.TABLE_CHUNK.unpack_from(table, udif.TABLE.size + 40 * index)
        need(first * udif.SECTOR == len(volume), "the image's chunks leave a gap")
        if kind != udif.CHUNK_END:
            chunk = data[offset : offset + size]
            volume += zlib.decompress(chunk) if kind == udif.CHUNK_ZLIB else chunk
            need(len(volume) == (first + sectors) * udif.SECTOR, "a chunk of the image has another size than it says")
    crc = zlib.crc32(volume)
    need(udif.checksum(crc) == want, "the image's volume: checksum")
    main = udif.checksum(zlib.crc32(struct.pack(">I", crc)))
    need(main == trailer.main_checksum and len(volume) == trailer.sectors * udif.SECTOR, "the image: checksum")
    return bytes(volume), trailer


def check_image_signature(data: bytes, trailer: udif.Trailer) -> Signature:
    need(trailer.signature_bytes > 0, "the image is not signed")
    need(trailer.signature_offset + trailer.signature_bytes == len(data) - 512, "bytes follow the image's signature")
    need(trailer.signature_offset == trailer.plist_offset + trailer.plist_bytes, "bytes precede the image's signature")
    signature = Signature(data[trailer.signature_offset : -512])
    signature.check_code(data, trailer.signature_offset)
    signature.check_blobs()
    # The trailer is sealed as it is without the signature's size, which is not known while signing.
    bare = bytearray(data[-512:])
    bare[304:312] = bytes(8)
    signature.check_special(SLOT_IMAGE, bytes(bare), "the image's trailer")
    return signature


def check_image(image: pathlib.Path, arguments: argparse.Namespace) -> list[str]:
    data = image.read_bytes()
    _, trailer = unpack_image(data)
    signature = check_image_signature(data, trailer)
    with tempfile.TemporaryDirectory() as folder:
        run("7z", "x", "-y", f"-o{folder}", image, what="7z")
        (root,) = pathlib.Path(folder).iterdir()
        found = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
        (app,) = (name for name in found if name.endswith(".app"))
        need(found == sorted(["Applications", app]), f"the image holds {found}")
        # Unpacked, the link would lead to where 7z put it.
        target = run("7z", "x", "-so", image, f"{root.name}/Applications", what="7z")
        need(target == "/Applications", f"Applications leads to {target}")
        modes = image_modes(image)
        name = plistlib.loads((root / app / "Contents/Info.plist").read_bytes())["CFBundleExecutable"]
        inside = f"{app}/Contents/MacOS/{name}"
        (mode,) = (mode for path, mode in modes.items() if path.endswith(inside))
        need(mode.startswith("-rwxr-xr-x"), f"the executable's mode in the image is {mode}")
        (root / inside).chmod(0o755)
        report = check_app(root / app, arguments)
    return [
        f"image: {image.name}, {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}",
        f"volume: HFS+, {trailer.sectors * udif.SECTOR:,} bytes, every checksum right, read by 7z: {', '.join(found)}",
        f"signer of the image: {signature.signer()} ({signature.identifier})",
        *report,
    ]


def image_modes(image: pathlib.Path) -> dict[str, str]:
    modes, path = {}, ""
    for line in run("7z", "l", "-slt", image, what="7z").splitlines():
        key, _, value = line.partition(" = ")
        if key == "Path":
            path = value
        elif key == "Mode":
            modes[path] = value
    return modes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artefact", type=pathlib.Path)
    parser.add_argument("--entitlements", type=pathlib.Path, required=True, help="exactly what the app may have")
    parser.add_argument("--symbols", type=pathlib.Path, help="the reviewed symbols, a file for each library")
    parser.add_argument("--version", help="the version it must have")
    parser.add_argument("--loads", nargs="*", default=[], metavar="FRAMEWORK", help="what it cannot be without")
    arguments = parser.parse_args()
    check = check_app if arguments.artefact.is_dir() else check_image
    try:
        print("\n".join(check(arguments.artefact, arguments)))
    except Refused as refused:
        print(f"{arguments.artefact.name}: REFUSED: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
