# Source me, with MAC set to what toolchain.sh printed: cargo and clippy then build for aarch64-apple-darwin.
# A change of one of these variables rebuilds everything, so they are set here and nowhere else.
# shellcheck shell=bash
: "${MAC:?the folder that toolchain.sh printed}"
mac_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Debian's cargo comes first; where rustup is, its own cargo would be found first and take its own clippy.
export PATH="/usr/bin:/bin:$PATH"
unset RUSTUP_TOOLCHAIN RUSTC_BOOTSTRAP RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
export RUSTC=$MAC/bin/rustc SYSROOT=$MAC/sysroot
export CARGO_BUILD_TARGET=aarch64-apple-darwin
export CARGO_TARGET_DIR=${MAC_TARGET:-$MAC/target}
export SDKROOT=$MAC/sdk MACOSX_DEPLOYMENT_TARGET=13.0
export CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER=$mac_here/ld
export CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS="-Clinker-flavor=ld64.lld"
export CC_aarch64_apple_darwin=$mac_here/cc CXX_aarch64_apple_darwin=$mac_here/cc AR_aarch64_apple_darwin=llvm-ar-19
export MAC

python3 "$mac_here/sdk.py" "$MAC/zig/darwin" "$mac_here/symbols" "$SDKROOT"
