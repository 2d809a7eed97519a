#!/usr/bin/env bash
# tools/fetch_model.sh with the real `hf` and a hub on loopback that has the bundled model: fetch_model_test.sh VENV
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'kill "$hub" 2>/dev/null; rm -rf "$work"' EXIT
python "$here/model_hub.py" "$root/demo/model" >"$work/address" &
hub=$!
until [ -s "$work/address" ]; do sleep 0.1; done
fail() { echo "fetch_model_test: $*" >&2; exit 1; }

mkdir "$work/tmp" "$work/home"
HF=$(command -v hf)
export HF VENV=$1 TMPDIR=$work/tmp HOME=$work/home HF_ENDPOINT
HF_ENDPOINT=$(cat "$work/address")
fetch() { "$root/tools/fetch_model.sh" org/model "$@"; }

for option in --revision --local-dir; do
  "$HF" download --help | grep -q -- "$option" || fail "hf download knows no $option"
done
fetch v1 "$work/in/a/new/folder"
diff -r "$root/demo/model" "$work/in/a/new/folder"
fetch v1 "$work/in/a/new/folder" | grep -q 'is there' || fail "what was there was made again"
if fetch v2 "$work/in/none" 2>"$work/said"; then fail "a revision that is not there was no error"; fi
grep -qi 'not found' "$work/said" || fail "hf said: $(cat "$work/said")"
[ ! -e "$work/in/none" ] || fail "a download that failed left a folder"
# In a pod these are the claim and 64 MiB of /tmp.
left=$(find "$work/tmp" "$work/in" -mindepth 1 -maxdepth 1 ! -name a)
[ -z "$left" ] || fail "left behind: $left"
kept=$(find "$HOME" -type f -size +0 ! -name '.check_*')
[ -z "$kept" ] || fail "kept in the home folder: $kept"
