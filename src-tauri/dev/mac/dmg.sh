#!/usr/bin/env bash
# Makes the disk image and its verifier's report: dmg.sh CACHE OUT_FOLDER
# On a Mac with Apple's tools, on Debian 12 with the ones in this folder.
# A Developer ID comes from the environment, by the names that Tauri reads: APPLE_CERTIFICATE and
# APPLE_CERTIFICATE_PASSWORD (or, on a Mac, APPLE_SIGNING_IDENTITY from the keychain); on a Mac APPLE_API_KEY,
# APPLE_API_ISSUER and APPLE_API_KEY_PATH have the image notarised too. Without them nobody's Mac trusts the image.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
cache=${1:?cache folder} out=${2:?folder for the image}
entitlements=src-tauri/macos/entitlements.plist
features=desktop,metal
tauri_cli=@tauri-apps/cli@2.12.5

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
image=$out/Samovar_${version}_aarch64.dmg
report=$out/Samovar_${version}_aarch64.txt
mkdir -p "$out"
rm -f "$image" "$report"

on_a_mac() {
  [ -n "${APPLE_CERTIFICATE:-}${APPLE_SIGNING_IDENTITY:-}" ] || export APPLE_SIGNING_IDENTITY=-
  npx --yes "$tauri_cli" build --bundles app,dmg --features "$features" -- --locked
  local bundles=target/release/bundle
  cp "$bundles/dmg/Samovar_${version}_aarch64.dmg" "$image"
  if [ -n "${APPLE_API_KEY_PATH:-}" ]; then
    # Tauri has notarised the app; the image needs a ticket of its own to be opened without a network.
    xcrun notarytool submit "$image" --wait --key "$APPLE_API_KEY_PATH" --key-id "$APPLE_API_KEY" --issuer "$APPLE_API_ISSUER"
    xcrun stapler staple "$image"
    xcrun stapler validate "$image"
    spctl --assess --type open --context context:primary-signature --verbose "$image"
  fi
  {
    codesign --verify --deep --strict --verbose=2 "$bundles/macos/Samovar.app"
    codesign --display --verbose=4 --entitlements - "$bundles/macos/Samovar.app"
    otool -L "$bundles/macos/Samovar.app/Contents/MacOS/samovar"
    vtool -show-build "$bundles/macos/Samovar.app/Contents/MacOS/samovar"
    hdiutil verify "$image"
  } >"$report" 2>&1 || { cat "$report" >&2; exit 1; }
}

on_linux() {
  RCODESIGN=$("$here/signer.sh" "$cache")
  MAC=$("$here/toolchain.sh" "$cache")
  export MAC RCODESIGN
  . "$here/env.sh"
  cargo build --release --locked --package samovar --features "$features"
  # Not local: the trap runs when this function is over.
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  python3 "$here/bundle.py" tauri.conf.json "$CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/release/samovar" "$work" >/dev/null
  "$here/image.sh" "$work/Samovar.app" "$entitlements" "$image"
  python3 "$here/verify.py" "$image" --entitlements "$entitlements" --symbols "$here/symbols" --version "$version" \
    --loads AppKit Metal WebKit >"$report"
}

case $(uname -s) in
  Darwin) on_a_mac ;;
  *) on_linux ;;
esac
cat "$report"
echo "$image"
