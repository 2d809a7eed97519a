#!/usr/bin/env bash
# Runs the README's commands, as they stand there: tools/run_readme.sh [README.md]
#
# A block is run when its fence says so:   ```sh run
# GitHub shows such a block like any other. All of them run in order, in one shell, in the root of the repository, with
# the programs that are built; the first command that fails ends it. A server started with & is waited for (its
# "listening on" line) when its block ends, and must stop with status 0 on SIGTERM after the last block.
# Afterwards git must see nothing new: what the commands write belongs under out/.
set -euo pipefail
cd "$(dirname "$0")/.."
readme=${1:-README.md}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

awk '/^```sh run$/ { open = 1; print "begin_block " FNR; next }
     /^```$/       { if (open) print "{ end_block; } 2>/dev/null"; open = 0; next }
     open' "$readme" >"$work/blocks"
count=$(grep -c '^begin_block ' "$work/blocks" || true)
[ "$count" -gt 0 ] || { echo "readme: $readme has no block that begins with \`\`\`sh run" >&2; exit 1; }

cat >"$work/run" <<'PROLOGUE'
set -euo pipefail
PS4='$ '
server=
begin_block() { { set +x; } 2>/dev/null; echo "readme: line $1"; set -x; }
end_block() {
  { set +x; } 2>/dev/null
  [ -z "$server" ] && [ -n "$(jobs -pr)" ] || return 0
  server=$(jobs -pr | head -n 1)
  for _ in $(seq 600); do
    grep -q '^listening on ' "$LOG" && return 0
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  echo "readme: the server did not start"; exit 1
}
stop() {
  local code=$?
  { set +x; } 2>/dev/null
  [ -z "$(jobs -pr)" ] || kill -TERM $(jobs -pr)
  if [ -n "$server" ]; then wait "$server" || { echo "readme: the server ended with status $?"; code=1; }; fi
  exit "$code"
}
trap '{ stop; } 2>/dev/null' EXIT
PROLOGUE
cat "$work/blocks" >>"$work/run"

git status --porcelain >"$work/before" 2>/dev/null || true
LOG=$work/log bash "$work/run" 2>&1 | tee "$work/log"
git status --porcelain >"$work/after" 2>/dev/null || true
diff "$work/before" "$work/after" >"$work/new" || { echo "readme: the commands changed the tree:"; cat "$work/new"; exit 1; }
echo "readme: $count blocks of $readme ran"
