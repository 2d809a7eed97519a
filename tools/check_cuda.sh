#!/usr/bin/env bash
# Builds the server for GPUs from nothing and shows what it says on a machine without one: tools/check_cuda.sh [FOLDER]
#
# LibTorch's CUDA wheel and the compiler that its CMake files ask for go to FOLDER/venv (default: a new one under TMPDIR,
# removed afterwards), the build to FOLDER/build: 6 GB. Fails on a warning of ours, and when the program does not end
# with 3 and one line that names the driver. What runs on a GPU is not tried: this machine need not have one.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -gt 0 ]; then
  folder=$1
  mkdir -p "$folder"
else
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi
export CUDA_VENV=$folder/venv

SECONDS=0
tools/setup.sh cuda
echo "check_cuda: wheels: $SECONDS s, $(du -sh "$folder/venv" | cut -f1)"

SECONDS=0
cmake --preset cuda -B "$folder/build" -DIV_VENV="$folder/venv" >"$folder/log" 2>&1 || { tail -n 30 "$folder/log"; exit 1; }
cmake --build "$folder/build" --target image-variations-server image-variations -j "${JOBS:-1}" >>"$folder/log" 2>&1 ||
  { grep -m 20 -E 'error|FAILED' "$folder/log"; exit 1; }
echo "check_cuda: build: $SECONDS s, $(du -sh "$folder/build" | cut -f1)"
if grep -n 'warning:' "$folder/log"; then
  echo "check_cuda: there are warnings" >&2
  exit 1
fi

server=$folder/build/bin/image-variations-server
ldd "$server" | grep -q libtorch_cuda || { echo "check_cuda: the server is not linked with CUDA" >&2; exit 1; }
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  echo "check_cuda: this machine has a GPU, so there is nothing to be missed; run the server with --device cuda:0"
  exit 0
fi
code=0
"$server" --model demo/model --device cuda:0 --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 \
  >"$folder/said" 2>&1 || code=$?
cat "$folder/said"
[ "$code" = 3 ] || { echo "check_cuda: the server ended with $code, expected 3" >&2; exit 1; }
[ "$(wc -l <"$folder/said")" = 1 ] && grep -q 'no device cuda:0.*NVIDIA driver' "$folder/said" ||
  { echo "check_cuda: expected one line that names the missing driver" >&2; exit 1; }
echo "check_cuda: without a device the server says so in one line and ends with 3"
