#!/usr/bin/env bash
# Measures what docs/parity.md and docs/performance.md say, with the programs of build/release: tools/bench.sh
# Hours, on a machine with nothing else to do. The full-size model with random weights (6 GB) is made once, in
# out/full-size. What misses its mark is named and does not stop the rest; the exit status tells of it.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh peers
python=${VENV:-.venv}/bin/python
[ -f out/full-size/model_index.json ] || "$python" tools/make_full_size_model.py out/full-size
results=out/bench.jsonl
rm -f "$results"

missed=0
run() { "$@" || missed=1; }
run "$python" tools/bench/peers.py --json "$results" --peers openvino torch.compile --cases unet/guided/512x512
run "$python" tools/bench/peers.py --json "$results" --peers openvino torch.compile --cases unet/guided/512x512 --dtype fp32
run "$python" tools/bench/peers.py --json "$results" --peers openvino --cases vae/512x512 clip \
  unet/unguided/512x512 unet/guided/256x256 unet/guided/384x640 unet/guided/768x768
run "$python" tools/bench/peers.py --json "$results" --peers openvino --cases vae/512x512 clip --dtype fp32
run python3 tools/bench/picture.py --json "$results"
run python3 tools/bench/start.py --json "$results"
run python3 tools/bench/growth.py --json "$results"
run python3 tools/bench/growth.py --json "$results" --model out/full-size --side 256 --dtype bf16
run "$python" tools/bench/service.py --json "$results"
run python3 tools/bench/calls.py --json "$results"
run python3 tools/bench/report.py "$results"
run python3 tools/bench/scheduling.py --full-size out/full-size
for dtype in bf16 fp32; do
  run env OMP_WAIT_POLICY=passive build/release/bin/networks_bench --model=out/full-size --dtype="$dtype" --compare
done

run python3 tools/bench_overhead.py
run python3 tools/bench_load_rss.py --model out/full-size
run "$python" tools/parity.py "full-size*"
exit $missed
