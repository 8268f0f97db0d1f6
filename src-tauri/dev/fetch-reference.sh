#!/usr/bin/env bash
# Fetches the vocabularies and chat templates that the reference's source package carries, and verifies its checksum.
# What is there already is verified again.
#   fetch-reference.sh FOLDER   FOLDER/vocabularies/*.gguf with .inp and .out, FOLDER/templates/*.jinja (100 MB)
set -euo pipefail

folder=${1:?folder}
name=llama-cpp-python
version=0.3.36
package_sha=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
# Of the checksums of the files in it, by path.
files_sha=5ee12ba4c0cc125f445d889faa875499ec5b37838f2eed04953bf4b2119f0de6

say() { printf 'reference: %s\n' "$*" >&2; }

files() { # check FOLDER, or extract PACKAGE FOLDER
  python3 - "$@" <<'PY'
import hashlib, pathlib, shutil, sys, tarfile

def digest(folder):
    total = hashlib.sha256()
    for path in sorted(path for path in folder.glob("*/*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{content} {path.relative_to(folder).as_posix()}\n".encode())
    return total.hexdigest()

def extract(package, folder):
    wanted = {"models": ("vocabularies", "ggml-vocab-"), "templates": ("templates", "")}
    with tarfile.open(package) as archive:
        for member in archive:
            path = pathlib.PurePosixPath(member.name)
            room, start = wanted.get(path.parent.name, ("", None))
            of_models = path.parts[1:4] == ("vendor", "llama.cpp", "models")
            if not (member.isfile() and of_models and start is not None and path.name.startswith(start)):
                continue
            if room == "templates" and path.suffix != ".jinja":
                continue
            target = folder / room / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.extractfile(member) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)

if sys.argv[1] == "extract":
    extract(sys.argv[2], pathlib.Path(sys.argv[3]))
print(digest(pathlib.Path(sys.argv[-1])))
PY
}

if [ -d "$folder" ] && [ "$(files check "$folder")" = "$files_sha" ]; then exit 0; fi

mkdir -p "$(dirname "$folder")"
scratch=$(cd "$(mktemp -d "$folder.XXXXXX")" && pwd)
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
say "fetching $name $version (77 MB)"
printf '%s==%s --hash=sha256:%s\n' "$name" "$version" "$package_sha" > "$scratch/wanted"
PYTHONPATH=$scratch/stand-in "$python" -m pip download --quiet --no-deps --disable-pip-version-check \
  --no-binary "$name" --no-build-isolation --require-hashes -d "$scratch" -r "$scratch/wanted" >&2

got=$(files extract "$scratch"/llama_cpp_python-*.tar.gz "$scratch/files")
[ "$got" = "$files_sha" ] || { say "its files' sha256 is $got and should be $files_sha"; exit 1; }
rm -rf "$folder"
mv "$scratch/files" "$folder"
say "$folder is there and verified"
