#!/usr/bin/env bash
# Fetches llama.cpp's source, as the source package of its Python bindings carries it, and verifies its checksum.
#   fetch-llama-cpp.sh FOLDER   FOLDER/llama_cpp_python-VERSION.tar.gz (77 MB)
set -euo pipefail

folder=${1:?folder}
name=llama-cpp-python
version=0.3.36
package_sha=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python=python3
if ! python3 -m pip --version >/dev/null 2>&1; then # Debian's own Python comes without
  python3 -m venv "$scratch/venv" >&2
  python=$scratch/venv/bin/python
fi

# pip asks a source package's build system for its metadata before it hands it over. Nothing is built here, so a stand-in
# for that build system answers, and no compiler and no build tools are needed.
mkdir -p "$scratch/stand-in/scikit_build_core"
touch "$scratch/stand-in/scikit_build_core/__init__.py"
cat > "$scratch/stand-in/scikit_build_core/build.py" <<PY
import pathlib

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder) / "llama_cpp_python-$version.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: $name\nVersion: $version\n")
    return info.name

def build_wheel(*_):
    raise NotImplementedError("nothing is built here")
PY
printf 'llama.cpp: fetching %s %s (77 MB)\n' "$name" "$version" >&2
printf '%s==%s --hash=sha256:%s\n' "$name" "$version" "$package_sha" > "$scratch/wanted"
PYTHONPATH=$scratch/stand-in "$python" -m pip download --quiet --no-deps --disable-pip-version-check \
  --no-binary "$name" --no-build-isolation --require-hashes -d "$folder" -r "$scratch/wanted" >&2
