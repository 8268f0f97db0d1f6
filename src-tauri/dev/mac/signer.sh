#!/usr/bin/env bash
# Builds the tool that signs for macOS once, in a folder outside the checkout, and prints its path: signer.sh CACHE
set -euo pipefail
cd "$(dirname "$0")/../../.."
version=0.29.0
root=$(mkdir -p "${1:?cache folder}" && cd "$1" && pwd)/rcodesign-$version
if [ ! -x "$root/bin/rcodesign" ]; then
  echo "building rcodesign $version in $root (some minutes, once)" >&2
  # Without its notarising, which a Mac does here and which doubles the build.
  env CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_TARGET_DIR="$root/target" \
    cargo install --quiet apple-codesign --version $version --no-default-features --locked --debug --root "$root" >&2
  rm -rf "$root/target"
fi
echo "$root/bin/rcodesign"
