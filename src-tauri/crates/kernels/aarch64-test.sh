#!/bin/sh
# Runs the kernels' tests as aarch64 code on an x86-64 Debian, under qemu-user: the NEON paths are tested there.
#
# rustup's registry may be out of reach, so compiler and library come from Debian's rustc-web packages, of which the
# arm64 library is unpacked next to the amd64 compiler; nothing of them is installed. Needed besides:
#   apt-get install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross
# The packages are kept in $SAMOVAR_AARCH64 (default: ~/.cache/samovar-dev/aarch64). Arguments go to the tests.
set -eu
crate=$(cd "$(dirname "$0")" && pwd)
cache=${SAMOVAR_AARCH64:-$HOME/.cache/samovar-dev/aarch64}
for tool in qemu-aarch64 aarch64-linux-gnu-gcc dpkg apt-get curl; do
    command -v $tool >/dev/null || { echo "aarch64-test: $tool is missing" >&2; exit 1; }
done

if [ ! -x "$cache/debian/usr/bin/rustc" ]; then
    rm -rf "$cache/new" && mkdir -p "$cache/new/debs" "$cache/new/debian"
    cd "$cache/new/debs"
    apt-get --print-uris --reinstall -y --no-install-recommends install rustc-web libstd-rust-web-dev |
        sed -n "s/^'\([^']*\)'.*/\1/p" | grep -E '/(libllvm|libstd-rust-web|rustc-web)' > uris
    sed -n '/libstd-rust-web/s/_amd64\.deb$/_arm64.deb/p' uris > foreign
    for uri in $(cat uris foreign); do curl -sfO "$uri"; done
    for deb in *.deb; do dpkg -x "$deb" ../debian; done
    cd "$cache" && rm -rf debian && mv new/debian debian && rm -rf new
fi

# Only the compiler itself sees Debian's libraries: cargo and the linker keep the system's.
cat > "$cache/rustc" <<EOF
#!/bin/sh
export LD_LIBRARY_PATH="$cache/debian/usr/lib/x86_64-linux-gnu:$cache/debian/usr/lib"
exec "$cache/debian/usr/bin/rustc" --sysroot "$cache/debian/usr" "\$@"
EOF
chmod +x "$cache/rustc"

cd "${KERNELS_WORKSPACE:-$crate}"
export RUSTC="$cache/rustc"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$crate/../../../target}/aarch64-qemu"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max"
exec cargo test --target aarch64-unknown-linux-gnu -p kernels --lib "$@"
