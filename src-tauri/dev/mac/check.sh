#!/usr/bin/env bash
# Type-checks and lints everything for macOS on Arm, tests included, and tests the scripts that make the app:
#   check.sh CACHE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
RCODESIGN=$("$here/signer.sh" "${1:?cache folder}")
MAC=$("$here/toolchain.sh" "$1")
export MAC RCODESIGN
. "$here/env.sh"

# A minute at most, so it comes first.
python3 "$here/tests.py"
python3 "$here/declared.py" "$MAC/zig/darwin" "$here/symbols" src-tauri/src src-tauri/crates
# Debian's compiler is not the project's: a lint that only one of them knows is allowed here.
allowed=(-A unknown_lints)
# Only build scripts and macros are compiled to run, and none of them runs long enough to be worth optimising.
cargo clippy --config 'profile.dev.package."*".opt-level=0' --workspace --all-targets --all-features --locked -- \
  -D warnings "${allowed[@]}"
