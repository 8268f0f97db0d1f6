#!/usr/bin/env bash
# Fuzzes for a while, target after target: fuzz.sh MINUTES [TARGET…]
# The flags are those of cargo-fuzz without a sanitizer, so the pinned stable toolchain does; `cargo fuzz run` on a
# nightly one works on the same folder (--fuzz-dir). What was found stays in target/fuzz.
set -euo pipefail

minutes=${1:?minutes a target}
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(segment manifest gguf vocabulary schema template answers requests)
host=$(rustc -vV | sed -n 's/^host: //p')
out=$root/target/fuzz
mkdir -p "$out/corpus" "$out/found"
python3 src-tauri/fuzz/seeds.py "$out/corpus"

export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
bins=()
for target in "${targets[@]}"; do bins+=(--bin "$target"); done
cargo build --release --locked --manifest-path src-tauri/fuzz/Cargo.toml --target-dir "$out/target" \
  --target "$host" "${bins[@]}"

# Templates are rendered by workers, which are this program's.
case " ${targets[*]} " in
  *" template "*) RUSTFLAGS='' cargo build --release --locked ;;
esac
export SAMOVAR_BIN=$root/target/release/samovar

for target in "${targets[@]}"; do
  mkdir -p "$out/found/$target"
  printf '\n%s for %s minutes\n' "$target" "$minutes"
  "$out/target/$host/release/$target" -max_total_time=$((minutes * 60)) -max_len=20000 -rss_limit_mb=2048 \
    -timeout=300 -detect_leaks=0 -print_final_stats=1 -artifact_prefix="$out/found/$target/" \
    "$out/corpus/$target"
done
