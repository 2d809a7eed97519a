#!/usr/bin/env bash
# Builds the programs and collects what an image has of them: deploy/build_runtime.sh PRESET VENV RUNTIME
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1 venv=$2 runtime=$3
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset" --target image-variations-server image-variations -j "${JOBS:-2}" -- --quiet
deploy/collect_runtime.sh "$runtime" "$venv" "build/$preset/bin"
