#!/usr/bin/env bash
# Runs libFuzzer on the readers of files, one after the other: tools/fuzz.sh [SECONDS each, 300] [TARGET...]
# Inputs that reach new code are kept in build/fuzz/corpus; a finding stops the run and is left in build/fuzz/findings.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-300}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=($(ls tests/fuzz/corpus))
build=build/fuzz

tools/setup.sh fuzz
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target "${targets[@]/%/_fuzz}" -- --quiet
mkdir -p $build/findings
for target in "${targets[@]}"; do
  mkdir -p "$build/corpus/$target"
  echo "fuzz: $target, $seconds s"
  "$build/bin/${target}_fuzz" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
    -verbosity=0 -artifact_prefix="$build/findings/$target-" "$build/corpus/$target" "tests/fuzz/corpus/$target"
done
