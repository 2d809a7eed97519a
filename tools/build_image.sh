#!/usr/bin/env bash
# Builds an image of the Dockerfile with buildah, from nothing and without a registry: tools/build_image.sh cpu|cuda|fetch [TAG]
#
# The base is Debian bookworm by debootstrap (or BASE=IMAGE). Root, no container runtime: isolation is chroot. A package
# mirror or wheels of one's own: DEBIAN_MIRROR, TORCH_INDEX_URL, PIP_FIND_LINKS (a folder); certificates of this machine
# are trusted during the build. Prints the layers and their sizes.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: tools/build_image.sh cpu|cuda|fetch [TAG]}
declare -A names=([cpu]=image-variations [cuda]=image-variations-cuda [fetch]=image-variations-fetch)
tag=${2:-${names[$target]}}
export BUILDAH_ISOLATION=chroot

base=${BASE:-localhost/image-variations-base}
if [ -z "${BASE:-}" ] && ! buildah inspect --type image "$base" >/dev/null 2>&1; then
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  echo "build_image: debootstrap"
  debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$root.log" ||
    { tail -n 5 "$root.log"; exit 1; }
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root.log"
  container=$(buildah from scratch)
  buildah add -q "$container" "$root" / >/dev/null
  buildah commit -q "$container" "$base" >/dev/null
  buildah rm "$container" >/dev/null
fi

options=(--volume /etc/ssl/certs:/etc/ssl/certs:ro --volume /usr/share/ca-certificates:/usr/share/ca-certificates:ro)
[ -n "${PIP_FIND_LINKS:-}" ] && options+=(--volume "$PIP_FIND_LINKS:$PIP_FIND_LINKS:ro" --env "PIP_FIND_LINKS=$PIP_FIND_LINKS")
echo "build_image: $tag, target $target"
buildah build --layers --target "$target" --tag "$tag" --build-arg "BASE=$base" --build-arg "JOBS=${JOBS:-2}" \
  --build-arg "TORCH_INDEX_URL=${TORCH_INDEX_URL:-}" "${options[@]}" --format docker .
buildah inspect --type image --format '{{range .Docker.RootFS.DiffIDs}}{{println .}}{{end}}' "$tag" | grep -c . | sed 's/$/ layers/'
