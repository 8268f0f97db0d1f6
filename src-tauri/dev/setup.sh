#!/usr/bin/env bash
# Installs what building and testing need, and names clearly what it cannot install.
#   setup.sh server  for the server alone
#   setup.sh build   for the desktop app too
#   setup.sh test    for `make test`
#   setup.sh desktop for `make desktop-test`
#   setup.sh aarch64 for `make kernels-aarch64`: the same, an emulator and a cross compiler
#   setup.sh mac     for `make mac-check` and `make dmg` on Debian 12: its own Rust with the library's source, a linker
#                    and a C compiler for macOS, and what writes and reads disk images
set -euo pipefail

purpose=${1:?server, build, test, desktop, aarch64 or mac}
say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

debian_packages() {
  echo build-essential pkg-config git python3 python3-venv ca-certificates nodejs npm
  # The page is tested in a real browser.
  [ "$purpose" != test ] || echo chromium
  [ "$purpose" != mac ] || echo rustc-web cargo-web rust-web-src libstd-rust-web-dev rust-web-llvm rust-web-clippy \
    lld-19 llvm-19 clang-19 openssl xorriso p7zip-full
  case $purpose in build | desktop)
    # GTK, the web view and the tray.
    echo libwebkit2gtk-4.1-dev libayatana-appindicator3-dev libdbus-1-dev file ;;
  esac
  # An X server, a session bus, a window manager and a tray host, and what drives and photographs windows.
  [ "$purpose" != desktop ] || echo xvfb dbus dbus-daemon openbox xfce4-panel xdotool xclip x11-utils imagemagick \
    webkit2gtk-driver libglib2.0-bin libgl1-mesa-dri fonts-cantarell fonts-dejavu-core adwaita-icon-theme
  [ "$purpose" != aarch64 ] || echo qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross curl
}

# Whether there is a node that can build the window's page (ui/package.json has the same number).
has_node() {
  command -v node >/dev/null && node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 18 || (a == 18 && b >= 18) ? 0 : 1)'
}

# Installed means: dpkg knows it, or the program it is needed for is there by other means.
missing_debian_packages() {
  local package
  for package in $(debian_packages); do
    case $package in
      git) command -v git >/dev/null && continue ;;
      python3) command -v python3 >/dev/null && continue ;;
      nodejs) has_node && continue ;;
      npm) command -v npm >/dev/null && continue ;;
      python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null && continue ;;
    esac
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}

setup_debian() {
  local missing sudo=()
  missing=$(missing_debian_packages)
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "these packages are missing and there is no sudo to install them:" $missing
    sudo=(sudo)
  fi
  say "installing with apt-get:" $missing
  local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -q -y)
  "${apt[@]}" update >&2
  # shellcheck disable=SC2086 # a list of words
  "${apt[@]}" install --no-install-recommends $missing >&2
}

setup_macos() {
  xcode-select -p >/dev/null 2>&1 || die "the Xcode command-line tools are missing: run 'xcode-select --install', then again"
  command -v python3 >/dev/null || die "python3 is missing: it comes with the Xcode command-line tools"
  has_node || die "Node.js 18.18 or later is missing: run 'brew install node', or install it from https://nodejs.org, then again"
}

setup_rust() {
  command -v cargo >/dev/null || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH="$HOME/.cargo/bin:$PATH"
  command -v cargo >/dev/null || die "Rust is missing and is not in the system's packages: install rustup from https://rustup.rs, then again"
  local want have
  want=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
  have=$(rustc --version 2>/dev/null | cut -d' ' -f2) || true
  [ "$have" = "$want" ] || die "Rust $want is needed (rust-toolchain.toml) and rustc says '${have:-nothing}': run 'rustup toolchain install $want'"
}

case $(uname -s) in
  Linux)
    if command -v apt-get >/dev/null; then
      setup_debian
    else
      say "no apt-get here: make sure that these are installed: $(debian_packages)"
    fi ;;
  Darwin) setup_macos ;;
  *) die "Samovar is built on macOS and Linux; this is $(uname -s)" ;;
esac
setup_rust
has_node || die "Node.js 18.18 or later is needed to build the window's page, and node says '$(node --version 2>/dev/null || echo nothing)'"
case $purpose in
  server | build | test | desktop | aarch64 | mac) ;;
  *) die "unknown purpose '$purpose'" ;;
esac
