#!/usr/bin/env bash
# timed.sh FILE NAME COMMAND...  runs the command and notes in FILE what it took, and whether it failed.
# timed.sh FILE                  prints what was noted.
set -euo pipefail
file=$1
shift
if [ $# -eq 0 ]; then
  [ -s "$file" ] || exit 0
  printf '\n%-20s %8s\n' 'part of make test' minutes
  awk -F '\t' '{ printf "%-20s %8.1f%s\n", $1, $2 / 60, $3 ? "  failed" : ""; sum += $2 }
    END { printf "%-20s %8.1f\n", "together", sum / 60 }' "$file"
  exit 0
fi
name=$1
shift
mkdir -p "$(dirname "$file")"
echo "$*"
start=$SECONDS
code=0
"$@" || code=$?
printf '%s\t%d\t%d\n' "$name" $((SECONDS - start)) "$code" >> "$file"
exit "$code"
