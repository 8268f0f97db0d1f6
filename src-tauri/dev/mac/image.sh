#!/usr/bin/env bash
# Signs an app bundle and puts it, with a link to Applications, into a signed disk image:
#   image.sh APP ENTITLEMENTS OUT.dmg
# Needs xorriso, and RCODESIGN to name the signing tool.
# A Developer ID certificate comes from APPLE_CERTIFICATE (a .p12 file in base64) and APPLE_CERTIFICATE_PASSWORD, the
# names that Tauri reads on a Mac, and Apple's server, or the one that APPLE_TIMESTAMP_URL names, says when it signed;
# without it a certificate is made for this one image, and macOS will not trust it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
app=${1:?the bundle} entitlements=${2:?the entitlements} out=${3:?the image}
: "${RCODESIGN:?the path of rcodesign}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=$(basename "$app" .app)
identifier=$(python3 -c 'import plistlib, sys; print(plistlib.load(open(sys.argv[1], "rb"))["CFBundleIdentifier"])' "$app/Contents/Info.plist")

# Secrets go through files that only we can read, never through arguments, which every process can.
certificate() (
  umask 077
  if [ -n "${APPLE_CERTIFICATE:-}" ]; then
    base64 -d <<<"$APPLE_CERTIFICATE" >"$work/signer.p12"
    printf '%s' "${APPLE_CERTIFICATE_PASSWORD:-}" >"$work/password"
  else
    "$RCODESIGN" generate-self-signed-certificate --algorithm ecdsa --person-name "$name, not trusted" --pem-unified-file "$work/signer.pem"
  fi
)
certificate >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
if [ -e "$work/signer.p12" ]; then
  signer=(--p12-file "$work/signer.p12" --p12-password-file "$work/password")
  [ -z "${APPLE_TIMESTAMP_URL:-}" ] || signer+=(--timestamp-url "$APPLE_TIMESTAMP_URL")
else
  signer=(--pem-file "$work/signer.pem" --timestamp-url none)
fi

sign() {
  "$RCODESIGN" sign "${signer[@]}" "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}
sign --code-signature-flags runtime --entitlements-xml-file "$entitlements" "$app"

mkdir "$work/stage"
cp -a "$app" "$work/stage/"
ln -s /Applications "$work/stage/Applications"
# xorriso writes HFS+ only beside ISO 9660; a Mac reads the one, so the HFS+ partition is cut out of the hybrid.
xorriso -as mkisofs -quiet -V "$name" -hfsplus -R -o "$work/hybrid" "$work/stage" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
read -r start count < <(xorriso -indev "$work/hybrid" -report_system_area plain 2>/dev/null |
  awk '/APM partition name/ && /HFSPLUS_Hybrid/ { partition = $5 } /APM start and size/ && $6 == partition { print $7, $8; exit }')
dd if="$work/hybrid" of="$work/volume" bs=512 skip="$start" count="$count" status=none
mkdir -p "$(dirname "$out")"
python3 "$here/udif.py" "$work/volume" "$out"
sign --binary-identifier "$identifier.dmg" "$out"
