#!/usr/bin/env bash
# Builds an image of the Dockerfile with buildah, from nothing and without a registry: tools/build_image.sh cpu|cuda|fetch [TAG]
#
# The base is Debian bookworm by debootstrap (or BASE=IMAGE); NO_CACHE=1 builds it and every layer anew. Root, no container
# runtime: isolation is chroot. A package mirror or wheels of one's own: DEBIAN_MIRROR, TORCH_INDEX_URL, PIP_FIND_LINKS (a
# folder). While it builds, pip trusts whom this machine trusts; of that nothing is in the image. SOURCE is the address
# of the sources for the image's label. Prints the layers.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: tools/build_image.sh cpu|cuda|fetch [TAG]}
declare -A names=([cpu]=image-variations [cuda]=image-variations-cuda [fetch]=image-variations-fetch)
tag=${2:-${names[$target]}}
export BUILDAH_ISOLATION=chroot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

base=${BASE:-localhost/image-variations-base}
if [ -z "${BASE:-}" ] && { [ -n "${NO_CACHE:-}" ] || ! buildah inspect --type image "$base" >/dev/null 2>&1; }; then
  echo "build_image: debootstrap"
  debootstrap --variant=minbase --include=ca-certificates bookworm "$work/base" \
    "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$work/log" || { tail -n 5 "$work/log"; exit 1; }
  rm -rf "$work"/base/var/cache/apt/archives/*.deb
  container=$(buildah from scratch)
  buildah add -q "$container" "$work/base" / >/dev/null
  buildah commit -q "$container" "$base" >/dev/null
  buildah rm "$container" >/dev/null
  rm -rf "$work/base"
fi

# Mounted, not copied and no --env, which would stay in the image.
certificates=/etc/ssl/certs/ca-certificates.crt
printf '[global]\ncert = /run/build-certificates.crt\n' >"$work/pip.conf"
options=(--volume "$certificates:/run/build-certificates.crt:ro" --volume "$work/pip.conf:/etc/pip.conf:ro")
if [ -n "${PIP_FIND_LINKS:-}" ]; then
  echo "find-links = $PIP_FIND_LINKS" >>"$work/pip.conf"
  options+=(--volume "$PIP_FIND_LINKS:$PIP_FIND_LINKS:ro")
fi
version=$(sed -n 's/^project(.* VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
echo "build_image: $tag, target $target, version $version, revision $revision"
buildah build --layers ${NO_CACHE:+--no-cache} --target "$target" --tag "$tag" --build-arg "BASE=$base" \
  --build-arg "JOBS=${JOBS:-2}" --build-arg "TORCH_INDEX_URL=${TORCH_INDEX_URL:-}" --build-arg "VERSION=$version" \
  --build-arg "REVISION=$revision" --build-arg "SOURCE=${SOURCE:-}" "${options[@]}" --format docker .
buildah inspect --type image --format '{{range .Docker.RootFS.DiffIDs}}{{println .}}{{end}}' "$tag" | grep -c . | sed 's/$/ layers/'
