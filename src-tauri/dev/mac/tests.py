#!/usr/bin/env python3
"""Hold the scripts of this folder against a tiny app: what is sound passes, every tampering is caught.

Needs the environment that env.sh makes, and RCODESIGN. Nothing here runs what it builds.
"""

import base64
import json
import os
import pathlib
import plistlib
import re
import shutil
import struct
import subprocess
import tempfile
import unittest
import zlib

import bundle
import declared
import udif

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
# The linker keeps what is used only, so that the page which is tampered with surely holds code that runs.
SOURCE = """
#[link(name = "CoreFoundation", kind = "framework")]
unsafe extern "C" { fn SYMBOL() -> f64; }
fn main() { println!("{}", unsafe { SYMBOL() }); }
"""
REVIEWED = "CFAbsoluteTimeGetCurrent"


def icon_set() -> bytes:
    entries = b"".join(kind + struct.pack(">I", 12) + b"png!" for kind in (b"ic07", b"ic08", b"ic09", b"ic10"))
    return b"icns" + struct.pack(">I", 8 + len(entries)) + entries


def compile_tiny(
    folder: pathlib.Path, symbol: str, framework: str = "CoreFoundation", **environment: str
) -> subprocess.CompletedProcess:
    source, linker = folder / "tiny.rs", os.environ["CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER"]
    source.write_text(SOURCE.replace("SYMBOL", symbol).replace("CoreFoundation", framework))
    command = [os.environ["RUSTC"], "--target", "aarch64-apple-darwin", f"-Clinker={linker}", "-Clinker-flavor=ld64.lld"]
    command += ["-Copt-level=1", source, "-o", folder / "tiny"]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def verify(artefact: pathlib.Path, *options: str | os.PathLike) -> subprocess.CompletedProcess:
    command = ["python3", HERE / "verify.py", artefact, "--entitlements", ROOT / "src-tauri/macos/entitlements.plist"]
    return subprocess.run([*command, *options], capture_output=True, text=True)


class Scripts(unittest.TestCase):
    """One app and one image for all; each test tampers with its own copy."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        built = compile_tiny(cls.folder, REVIEWED)
        assert built.returncode == 0, built.stderr
        (cls.folder / "icon.icns").write_bytes(icon_set())
        shutil.copy(ROOT / "src-tauri/macos/Info.plist", cls.folder)
        config = {
            "productName": "Tiny",
            "version": "1.2.3",
            "identifier": "org.example.tiny",
            "bundle": {
                "icon": ["icon.png", "icon.icns"],
                "category": "DeveloperTool",
                "macOS": {"minimumSystemVersion": "13.0", "infoPlist": "Info.plist"},
            },
        }
        (cls.folder / "tauri.conf.json").write_text(json.dumps(config))
        cls.signed_app = bundle.lay_out(cls.folder / "tauri.conf.json", cls.folder / "tiny", cls.folder)
        # A file of a kind that the seal covers in its own way.
        (cls.signed_app / "Contents/Resources/note.txt").write_text("a resource")
        cls.signed_image = cls.folder / "Tiny.dmg"
        cls.make_image(cls.signed_app, cls.signed_image)

    @staticmethod
    def make_image(app: pathlib.Path, out: pathlib.Path, **given: str):
        command = [HERE / "image.sh", app, ROOT / "src-tauri/macos/entitlements.plist", out]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("APPLE_")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment | given)
        assert done.returncode == 0, done.stderr

    def setUp(self):
        self.work = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def app(self) -> pathlib.Path:
        return shutil.copytree(self.signed_app, self.work / "Tiny.app", symlinks=True)

    def image(self) -> pathlib.Path:
        return shutil.copy(self.signed_image, self.work / "Tiny.dmg")

    def refused(self, artefact: pathlib.Path, why: str, *options: str | os.PathLike):
        done = verify(artefact, *options)
        self.assertEqual(done.returncode, 1, f"accepted: {done.stdout}{done.stderr}")
        self.assertRegex(done.stderr, f"REFUSED: .*{why}")

    def test_a_sound_image_passes_and_its_report_says_what_it_holds(self):
        done = verify(self.signed_image, "--symbols", HERE / "symbols", "--version", "1.2.3")
        self.assertEqual(done.returncode, 0, done.stderr)
        for words in (
            "every checksum right, read by 7z: Applications, Tiny.app",
            "app: org.example.tiny 1.2.3",
            "minimum macOS: 13.0",
            "hardened runtime (flags 0x10000)",
            "entitlements: none",
            "signer of the app: .*Tiny, not trusted",
            "load: /usr/lib/libSystem.B.dylib",
            "imports from CoreFoundation: 1",
        ):
            self.assertRegex(done.stdout, re.compile(words.replace("(", r"\(").replace(")", r"\)")))

    def test_a_certificate_from_the_environment_signs_app_and_image(self):
        name = "Developer ID Application: Nobody (0000000000)"
        key, certificate, both = (self.work / file for file in ("key.pem", "certificate.pem", "both.p12"))
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        make += ["-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=critical,codeSigning"]
        subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        # What the Keychain exports is encrypted in this old way.
        pack = ["openssl", "pkcs12", "-export", "-legacy", "-inkey", key, "-in", certificate, "-out", both]
        subprocess.run([*pack, "-passout", "pass:secret"], check=True, capture_output=True)
        image = self.work / "Tiny.dmg"
        given = {"APPLE_CERTIFICATE": base64.b64encode(both.read_bytes()).decode(), "APPLE_CERTIFICATE_PASSWORD": "secret"}
        self.make_image(self.app(), image, APPLE_TIMESTAMP_URL="none", **given)
        done = verify(image)
        self.assertEqual(done.returncode, 0, done.stderr)
        for signed in ("app", "image"):
            self.assertRegex(done.stdout, f"signer of the {signed}: .*{re.escape(name)}")

    def test_a_changed_byte_of_code_is_caught(self):
        app = self.app()
        executable = app / "Contents/MacOS/tiny"
        code = bytearray(executable.read_bytes())
        code[0x5000] ^= 1
        executable.write_bytes(code)
        self.refused(app, "page 5 of [0-9]+ differs")

    def test_a_changed_property_list_is_caught(self):
        app = self.app()
        path = app / "Contents/Info.plist"
        plist = plistlib.loads(path.read_bytes())
        path.write_bytes(plistlib.dumps(plist | {"CFBundleName": "Other"}))
        self.refused(app, "Info.plist: differs")

    def test_a_changed_resource_is_caught(self):
        app = self.app()
        (app / "Contents/Resources/note.txt").write_text("another")
        self.refused(app, "note.txt: differs from its seal")

    def test_a_removed_resource_is_caught(self):
        app = self.app()
        (app / "Contents/Resources/note.txt").unlink()
        self.refused(app, "note.txt: sealed and missing")

    def test_an_extra_file_is_caught(self):
        app = self.app()
        (app / "Contents/Resources/extra.dylib").write_bytes(b"")
        self.refused(app, "extra.dylib: not sealed")

    def test_a_seal_that_is_changed_with_its_resource_is_caught(self):
        app = self.app()
        (app / "Contents/Resources/note.txt").unlink()
        path = app / "Contents/_CodeSignature/CodeResources"
        seal = plistlib.loads(path.read_bytes())
        for files in ("files", "files2"):
            del seal[files]["Resources/note.txt"]
        path.write_bytes(plistlib.dumps(seal))
        self.refused(app, "the list of sealed files: differs")

    def test_a_byte_of_the_signature_itself_is_caught(self):
        app = self.app()
        executable = app / "Contents/MacOS/tiny"
        code = bytearray(executable.read_bytes())
        flags = code.rindex(b"\xfa\xde\x0c\x02") + 12
        code[flags + 3] ^= 1
        executable.write_bytes(code)
        self.refused(app, "the signature: .*digest|the signature: ")

    def test_a_changed_byte_of_the_image_is_caught(self):
        image = self.image()
        data = bytearray(image.read_bytes())
        data[len(data) // 3] ^= 1
        image.write_bytes(data)
        self.refused(image, "checksum")

    def test_a_changed_image_whose_checksums_were_mended_is_caught(self):
        image = self.image()
        data = bytearray(image.read_bytes())
        trailer = udif.Trailer.unpack(data[-512:])
        # The unused property in the list that describes the chunks: no checksum covers it.
        at = data.index(b"0x0050", trailer.plist_offset)
        data[at + 5] ^= 1
        image.write_bytes(data)
        self.refused(image, "differs from the signature")

    def test_an_image_with_a_wrong_checksum_in_its_trailer_is_caught(self):
        image = self.image()
        data = bytearray(image.read_bytes())
        data[-512 + 80 + 8] ^= 1
        image.write_bytes(data)
        self.refused(image, "the image's data: checksum")

    def test_a_changed_trailer_is_caught(self):
        image = self.image()
        data = bytearray(image.read_bytes())
        data[-512 + 64] ^= 1
        image.write_bytes(data)
        self.refused(image, "the image's trailer: differs")

    def test_a_tampered_app_in_a_sound_image_is_caught(self):
        app = self.app()
        image = self.work / "Tiny.dmg"
        self.make_image(app, image)
        self.assertEqual(verify(image).returncode, 0)
        volume, trailer = self.unpack(image)
        at = volume.index(b"a resource")
        udif.write(volume[:at] + b"A" + volume[at + 1 :], image)
        subprocess.run([os.environ["RCODESIGN"], "sign", "--binary-identifier", "x", image], check=True, capture_output=True)
        # Signed ad hoc: whoever lacks the key cannot do better.
        self.refused(image, "note.txt: differs from its seal|there is no signature over the code directory")

    @staticmethod
    def unpack(image: pathlib.Path) -> tuple[bytes, udif.Trailer]:
        data = image.read_bytes()
        trailer = udif.Trailer.unpack(data[-512:])
        (partition,) = plistlib.loads(data[trailer.plist_offset :][: trailer.plist_bytes])["resource-fork"]["blkx"]
        *_, count = udif.TABLE.unpack_from(partition["Data"])
        volume = b""
        for index in range(count - 1):
            kind, _, _, _, offset, size = udif.TABLE_CHUNK.unpack_from(partition["Data"], udif.TABLE.size + 40 * index)
            chunk = data[offset : offset + size]
            volume += zlib.decompress(chunk) if kind == udif.CHUNK_ZLIB else chunk
        return volume, trailer

    def test_another_entitlement_than_agreed_is_caught(self):
        wanted = self.work / "wanted.plist"
        wanted.write_bytes(plistlib.dumps({"com.apple.security.network.server": True}))
        done = subprocess.run(
            ["python3", HERE / "verify.py", self.signed_app, "--entitlements", wanted], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("entitlements {}, and they must be", done.stderr)

    def test_another_version_than_asked_for_is_caught(self):
        self.refused(self.signed_app, "version 1.2.3", "--version", "1.2.4")

    def test_a_build_without_what_makes_it_the_app_is_caught(self):
        self.refused(self.signed_app, "does not load WebKit", "--loads", "CoreFoundation", "WebKit")

    def test_a_symbol_that_nobody_reviewed_is_caught_in_the_finished_executable(self):
        symbols = self.work / "symbols"
        symbols.mkdir()
        self.refused(self.signed_app, f"nobody has reviewed: _{REVIEWED}", "--symbols", symbols)

    def test_a_misspelt_symbol_of_a_framework_does_not_link(self):
        done = compile_tiny(self.work, "CFAbsoluteTimeGetCurent")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("undefined symbol: _CFAbsoluteTimeGetCurent", done.stderr)
        self.assertIn("once reviewed, into", done.stderr)

    def test_what_an_umbrella_re_exports_is_taken_from_where_it_is(self):
        done = compile_tiny(self.work, "UCKeyTranslate", "Carbon")
        self.assertEqual(done.returncode, 0, done.stderr)
        imports = subprocess.run(["llvm-nm-19", "-m", self.work / "tiny"], capture_output=True, text=True).stdout
        self.assertIn("_UCKeyTranslate (from CoreServices)", imports)

    def test_a_framework_without_reviewed_symbols_exports_nothing(self):
        sdk = self.work / "sdk"
        symbols = self.work / "symbols"
        symbols.mkdir()
        make = ["python3", HERE / "sdk.py", pathlib.Path(os.environ["MAC"]) / "zig/darwin", symbols, sdk]
        subprocess.run(make, check=True)
        done = compile_tiny(self.work, REVIEWED, SDKROOT=str(sdk))
        self.assertIn(f"undefined symbol: _{REVIEWED}", done.stderr)
        (symbols / "CoreFundation.txt").write_text(f"_{REVIEWED}\n")
        done = subprocess.run(make, capture_output=True, text=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("CoreFundation", done.stderr)

    def test_a_misspelt_symbol_in_the_projects_own_sources_is_caught_without_linking(self):
        block = '#[link(name = "CoreFoundation", kind = "framework")]\nunsafe extern "C" {\n%s\n}\n'
        text = block % f"    // A call.\n    fn {REVIEWED}() -> f64;\n    fn getpid() -> i32;"
        check = lambda text: declared.complaints("a.rs", text, HERE / "symbols", frozenset({"_getpid"}))
        self.assertEqual(check(text), [])
        self.assertEqual(check("fn main() {}"), [])
        wrong = "is not known of CoreFoundation or libSystem"
        self.assertEqual(
            check(text.replace("Current", "Curent")), [f"a.rs:4: undefined symbol: _CFAbsoluteTimeGetCurent {wrong}"]
        )
        named = block % f'    #[link_name = "{REVIEWED}2"]\n    fn {REVIEWED}() -> f64;'
        self.assertEqual(check(named), [f"a.rs:4: undefined symbol: _{REVIEWED}2 {wrong}"])
        constant = block % "    static kNothing: *const u8;"
        self.assertEqual(check(constant), [f"a.rs:3: undefined symbol: _kNothing {wrong}"])
        self.assertEqual(len(check(text.replace("CoreFoundation", "AppKit"))), 1)
        self.assertEqual(check('#[cfg(target_os = "linux")]\nunsafe extern "C" {\n    fn prctl();\n}\n'), [])

    def test_equal_volumes_make_equal_images(self):
        volume = bytes(range(256)) * 4096
        first, second = self.work / "1.dmg", self.work / "2.dmg"
        udif.write(volume, first)
        udif.write(volume, second)
        self.assertEqual(first.read_bytes(), second.read_bytes())
        self.assertEqual(self.unpack(first)[0], volume)

    def test_the_oldest_macos_is_the_same_everywhere(self):
        found = {
            "env.sh": re.findall(r"MACOSX_DEPLOYMENT_TARGET=(\S+)", (HERE / "env.sh").read_text()),
            "toolchain.sh": re.findall(r"MACOSX_DEPLOYMENT_TARGET=(\S+)", (HERE / "toolchain.sh").read_text()),
            "cc": re.findall(r"apple-macosx(\S+)", (HERE / "cc").read_text()),
            "sdk.py": re.findall(r'MACOS = "(\S+)"', (HERE / "sdk.py").read_text()),
        }
        config = ROOT / "tauri.conf.json"
        if config.exists():
            found["tauri.conf.json"] = [json.loads(config.read_text())["bundle"]["macOS"]["minimumSystemVersion"]]
        self.assertEqual(found, dict.fromkeys(found, ["13.0"]))


if __name__ == "__main__":
    unittest.main()
