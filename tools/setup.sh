#!/usr/bin/env bash
# Installs what a build needs and is missing, and says what: tools/setup.sh dev|release|cuda|tidy|fuzz|oracle|peers|fetch|deploy
#   dev      the torch-free part: Debian packages and the google/rpc protos
#   release  dev and LibTorch (from the torch wheel; TORCH_INDEX_URL chooses the wheel index, VENV the folder)
#   cuda     the same from a CUDA wheel, with the compiler that its CMake files want, in a folder of its own (CUDA_VENV); 6 GB
#   tidy     dev and clang
#   fuzz     dev, clang and libFuzzer
#   oracle   release and diffusers, for the scripts in tools/ that make goldens and compare
#   peers    oracle and what tools/bench/peers.py compares with
#   fetch    what tools/fetch_model.sh needs, and nothing to build with
#   deploy   what the tests of deploy/ run: Helm, kubectl, buildah, nginx and others, in a folder of its own (DEPLOY_VENV)
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?usage: tools/setup.sh dev|release|cuda|tidy|fuzz|oracle|peers|fetch|deploy}
venv=${VENV:-.venv}
[ "$what" = cuda ] && venv=${CUDA_VENV:-.venv-cuda}
[ "$what" = deploy ] && venv=${DEPLOY_VENV:-.venv-deploy}

packages=(g++ cmake ninja-build ccache pkg-config python3-venv clang-format-14
  libgrpc++-dev libgrpc-dev protobuf-compiler-grpc protobuf-compiler libprotobuf-dev libabsl-dev libssl-dev
  prometheus-cpp-dev libjpeg62-turbo-dev libpng-dev nlohmann-json3-dev libcli11-dev
  libgtest-dev libgmock-dev libbenchmark-dev prometheus
  libsixel-examples golang-1.19-src libseccomp-dev)
[ "$what" = fetch ] && packages=(python3-venv)
[ "$what" = tidy ] && packages+=(clang-14 clang-tidy-14)
[ "$what" = fuzz ] && packages+=(clang-14 libclang-rt-14-dev)
[ "$what" = deploy ] && packages+=(buildah debootstrap nginx-light)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: installing ${missing[*]}"
  as_root=(env DEBIAN_FRONTEND=noninteractive)
  [ "$(id -u)" = 0 ] || as_root=(sudo "${as_root[@]}")
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# install FILE [OPTION...]: the pinned Python packages of tools/requirements/FILE.txt, once per version of that file.
install() {
  local file=tools/requirements/$1.txt stamp=$venv/.installed-$1
  cmp -s "$file" "$stamp" && return
  echo "setup: installing $(paste -sd' ' "$file") into $venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${@:2}" -r "$file" 2> >(grep -v '^WARNING: Location' >&2)
  cp "$file" "$stamp"
}
[ -x "$venv/bin/pip" ] || { echo "setup: making the virtual environment $venv"; python3 -m venv "$venv"; }
install build --no-deps
case $what in
  release | oracle | peers | fetch) install torch ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} ;;
esac
case $what in
  oracle | peers) install oracle ;;
esac
[ "$what" = peers ] && install peers
[[ "$what" = fetch || "$what" = deploy ]] && install fetch
if [ "$what" = cuda ]; then
  install cuda
  # The wheels carry versioned libraries alone; linkers look for names without version, and CMake for lib64.
  for toolkit in "$venv"/lib/python3*/site-packages/nvidia/cu13; do
    ln -sfn lib "$toolkit/lib64"
    for library in "$toolkit"/lib/lib*.so.*; do
      name=$(basename "$library")
      [ -e "$toolkit/lib/${name%%.so.*}.so" ] || ln -s "$name" "$toolkit/lib/${name%%.so.*}.so"
    done
  done
fi
[ "$what" = deploy ] && install deploy
exit 0
