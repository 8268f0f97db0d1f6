#!/usr/bin/env bash
# Builds llama-server for this very processor, of the source that `llama_cpp_bench.py`'s library is built of.
#   llama-server.sh FOLDER   FOLDER/llama-server
set -euo pipefail

folder=${1:?folder}
here=$(cd "$(dirname "$0")" && pwd)

mkdir -p "$(dirname "$folder")"
scratch=$(cd "$(mktemp -d "$folder.XXXXXX")" && pwd)
trap 'rm -rf "$scratch"' EXIT

"$here/../fetch-llama-cpp.sh" "$scratch"
tar -xzf "$scratch"/llama_cpp_python-*.tar.gz -C "$scratch" --strip-components=1 --wildcards '*/vendor/llama.cpp'
python3 -m venv "$scratch/tools"
"$scratch/tools/bin/pip" install --quiet --disable-pip-version-check -r "$here/build-requirements.txt"
export PATH="$scratch/tools/bin:$PATH"
# Without the page, which a build would fetch, and without what needs more libraries: neither is measured.
cmake -S "$scratch/vendor/llama.cpp" -B "$scratch/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
  -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
  -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF > "$scratch/log" 2>&1 ||
  { tail -n 50 "$scratch/log" >&2; exit 1; }
cmake --build "$scratch/build" --target llama-server >> "$scratch/log" 2>&1 || { tail -n 50 "$scratch/log" >&2; exit 1; }
rm -rf "$folder"
mkdir "$folder"
cp "$scratch/build/bin/llama-server" "$folder"
