#!/usr/bin/env bash
# Fetches the prose that `make bench-kv` reads: the Debian FAQ (180 kB, GPL-2+), out of Debian's package debian-faq.
#   fetch-text.sh FILE
set -euo pipefail

file=${1:?file}
say() { printf 'text: %s\n' "$*" >&2; }

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  say "only Debian has the package debian-faq: give a text of your own, make bench-kv KV_TEXT=FILE"
  exit 1
fi
mkdir -p "$(dirname "$file")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && apt-get -o DPkg::Lock::Timeout=600 -qq download debian-faq)
dpkg-deb -x "$scratch"/debian-faq_*.deb "$scratch/files"
gzip -dc "$scratch/files/usr/share/doc/debian/FAQ/debian-faq.en.txt.gz" > "$scratch/text"
mv "$scratch/text" "$file"
say "$file is there ($(ls "$scratch" | grep '[.]deb$'))"
