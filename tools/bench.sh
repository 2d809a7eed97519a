#!/usr/bin/env bash
# Measures what docs/parity.md says, with the programs of build/release: tools/bench.sh
# The full-size model with random weights (6 GB) is made once, in out/full-size.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh oracle
python=${VENV:-.venv}/bin/python
[ -f out/full-size/model_index.json ] || "$python" tools/make_full_size_model.py out/full-size

python3 tools/bench_overhead.py
python3 tools/bench_load_rss.py --model out/full-size
"$python" tools/parity.py "full-size*"
