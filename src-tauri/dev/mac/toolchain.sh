#!/usr/bin/env bash
# Makes what compiling for macOS on Debian needs, once, in a folder outside the checkout, and prints that folder:
#   toolchain.sh CACHE
# sysroot/  std for aarch64-apple-darwin, built from Debian's source of the library with Debian's compiler
# zig/      the C library's headers and the list of libSystem's symbols, from the PyPI package ziglang
# bin/      rustc with that sysroot
# The folder's name holds the compiler's version and this file's checksum: a change of either makes a new one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${1:?cache folder}

target=aarch64-apple-darwin
ziglang=0.17.1
# The oldest macOS that the app runs on; tauri.conf.json and Info.plist say the same, which tests.py holds.
export MACOSX_DEPLOYMENT_TARGET=13.0

mkdir -p "$cache"
version=$(/usr/bin/rustc --version | cut -d' ' -f2)
root=$(cd "$cache" && pwd)/mac-$version-$(cksum <"$here/toolchain.sh" | cut -d' ' -f1)

std_library() {
  local work=$1 lib=$1/sysroot/lib/rustlib/$target/lib
  mkdir -p "$work/std/src" "$lib"
  printf '[package]\nname = "empty"\nedition = "2021"\n[workspace]\n[profile.release]\nopt-level = 2\n' >"$work/std/Cargo.toml"
  echo '#![no_std]' >"$work/std/src/lib.rs"
  (
    cd "$work/std"
    # With bitcode, which the release build's link-time optimisation reads.
    env -u CARGO_BUILD_TARGET -u CARGO_TARGET_DIR RUSTFLAGS=-Cembed-bitcode=yes RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc \
      CARGO_TARGET_DIR="$work/std/target" \
      /usr/bin/cargo build --quiet --release -Zbuild-std=std,panic_abort,panic_unwind,proc_macro,test --target $target
  ) >&2
  cp "$work/std/target/$target"/release/deps/*.rlib "$lib"
  rm -f "$lib"/libempty-*
  ln -s /usr/lib/rustlib/x86_64-unknown-linux-gnu "$work/sysroot/lib/rustlib/x86_64-unknown-linux-gnu"
  ln -s /usr/lib/rustlib/src "$work/sysroot/lib/rustlib/src"

  # build-std compiles panic_abort with the unwinding strategy, which rustc then refuses to use: compile it again.
  local built suffix
  built=$(basename "$lib"/libpanic_abort-*.rlib .rlib)
  suffix=${built#libpanic_abort}
  RUSTC_BOOTSTRAP=1 /usr/bin/rustc --sysroot "$work/sysroot" --target $target --crate-name panic_abort --edition 2024 \
    --crate-type rlib -Cpanic=abort -Copt-level=2 -Zforce-unstable-if-unmarked \
    -Cmetadata="${suffix#-}" -Cextra-filename="$suffix" --out-dir "$lib" \
    /usr/lib/rustlib/src/rust/library/panic_abort/src/lib.rs
  rm -rf "$work/std"
}

c_library() {
  local work=$1
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$work/wheel" "ziglang==$ziglang"
  python3 - "$work" <<'PYTHON'
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
(wheel,) = (work / "wheel").glob("ziglang-*.whl")
wanted = {"ziglang/lib/libc/darwin/": "darwin", "ziglang/lib/libc/include/any-darwin-any/": "include"}
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        for prefix, folder in wanted.items():
            if name.startswith(prefix) and not name.endswith("/"):
                path = work / "zig" / folder / name.removeprefix(prefix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))
PYTHON
  rm -rf "$work/wheel" "$work/venv"
}

# The name tells clippy-driver that this is a rustc; it finds the sysroot in SYSROOT, which env.sh sets.
compiler() {
  mkdir -p "$1/bin"
  printf '#!/bin/sh\nexec /usr/bin/rustc --sysroot %s/sysroot "$@"\n' "$root" >"$1/bin/rustc"
  chmod +x "$1/bin/rustc"
}

if [ ! -e "$root/ready" ]; then
  echo "building std for macOS in $root (some minutes, once)" >&2
  work=$root.$$
  trap 'rm -rf "$work"' EXIT
  rm -rf "$work"
  mkdir -p "$work"
  c_library "$work"
  std_library "$work"
  compiler "$work"
  touch "$work/ready"
  # Two runs may build at once: the first to finish wins.
  mv -T "$work" "$root" 2>/dev/null || [ -e "$root/ready" ]
fi
echo "$root"
