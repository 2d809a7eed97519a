#!/usr/bin/env bash
# What the programs need to run, as trees that become an image's layers: deploy/collect_runtime.sh ROOT VENV BIN
#   ROOT/system    shared libraries of Debian packages, their loader, certificates of authorities; no shell, no package manager
#   ROOT/libtorch  shared libraries of the wheels in VENV: LibTorch's, and CUDA's
#   ROOT/programs  the programs in BIN without debug information, the bundled model, accounts, the loader's cache, the SBOM
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${1:?usage: collect_runtime.sh ROOT VENV BIN} venv=$2 bin=$3
system=$root/system libtorch=$root/libtorch/usr/lib/image-variations programs=$root/programs
rm -rf "$root"
mkdir -p "$system"/{usr/lib,usr/lib64,etc/ssl/certs} "$libtorch" "$programs"/{usr/bin,etc/ld.so.conf.d}
ln -s usr/lib "$system/lib"
ln -s usr/lib64 "$system/lib64"

is_packaged() {  # since Debian 12 /lib is a link to /usr/lib, but packages own either name
  dpkg-query -S "$1" >/dev/null 2>&1 || dpkg-query -S "/usr$1" >/dev/null 2>&1 || dpkg-query -S "${1#/usr}" >/dev/null 2>&1
}
place() {  # a library under the name that is asked for
  local to=$libtorch/$(basename "$1")
  if is_packaged "$1"; then
    to=$1
    [[ $to == /usr/* ]] || to=/usr$to
    to=$system$to
  fi
  install -D -m 755 "$(readlink -f "$1")" "$to"
}

for program in image-variations-server image-variations; do
  strip -o "$programs/usr/bin/$program" "$bin/$program"
  ldd "$bin/$program"
done | awk '$2 == "=>" && $3 == "not" { print "collect_runtime: " $1 " is missing" > "/dev/stderr"; bad = 1 }
            $3 ~ /^\// { print $3 }
            $1 ~ /^\// { print $1 }
            END { exit bad }' | sort -u >"$root/libraries"
# Opened by name while running, so nobody is linked with them: cuDNN's parts, and what compiles kernels.
while read -r library; do
  case $library in
    */libcudnn.so.*) ls "$(dirname "$library")"/libcudnn_*.so.* ;;
    */libnvrtc.so.*) ls "$(dirname "$library")"/libnvrtc-builtins.so.* ;;
    */libtorch_cuda.so) ls "$(dirname "$library")"/libcaffe2_nvrtc.so ;;
  esac
done <"$root/libraries" >"$root/opened"
cat "$root/opened" >>"$root/libraries"
while read -r library; do place "$library"; done <"$root/libraries"
# Debian's authorities alone. This machine's own bundle also has those that its administrator trusts.
dpkg -L ca-certificates | grep '\.crt$' | sort | xargs cat >"$system/etc/ssl/certs/ca-certificates.crt"

echo 'image-variations:x:10001:10001::/:/nonexistent' >"$programs/etc/passwd"
echo 'image-variations:x:10001:' >"$programs/etc/group"
echo 'hosts: files dns' >"$programs/etc/nsswitch.conf"
install -d -m 1777 "$programs/tmp"
echo /usr/lib/image-variations >"$programs/etc/ld.so.conf.d/image-variations.conf"
echo 'include /etc/ld.so.conf.d/*.conf' >"$programs/etc/ld.so.conf"
merged=$root/merged
mkdir "$merged"
for tree in system libtorch programs; do cp -al "$root/$tree/." "$merged/"; done
ldconfig -r "$merged"
cp "$merged/etc/ld.so.cache" "$programs/etc/"
rm -rf "$merged" "$root/opened" "$root/libraries"

share=$programs/usr/share/image-variations
mkdir -p "$share"
cp -r "$here/../demo/model" "$share/model"
chmod -R a+rX "$share"
version=$("$bin/image-variations-server" --version | grep -o '[0-9.]*$')
"$here/sbom.py" "$root" "$(echo "$venv"/lib/python3*/site-packages)" "$version" >"$root/sbom"
mv "$root/sbom" "$share/sbom.spdx.json"
du -sh "$system" "$root/libtorch" "$programs"
