#!/usr/bin/env bash
# Builds the programs and collects what an image has of them: deploy/build_runtime.sh PRESET VENV RUNTIME
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1 venv=$2 runtime=$3
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset" --target image-variations-server image-variations -j "${JOBS:-2}" -- --quiet
bin=build/$preset/bin
deploy/collect_runtime.sh "$runtime" "$bin/image-variations-server" "$bin/image-variations"
share=$runtime/programs/usr/share/image-variations
mkdir -p "$share"
cp -r demo/model "$share/model"
chmod -R a+rX "$share"
version=$("$bin/image-variations-server" --version | grep -o '[0-9.]*$')
deploy/sbom.py "$runtime" demo/model "$(echo "$venv"/lib/python3*/site-packages)" "$version" >"$share/sbom.spdx.json"
