#!/usr/bin/env bash
# Checks an image: image_test.sh cpu|cuda|fetch. With BUILD_IMAGES=1 it builds it first, on a new base and without caches.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
[ -z "${BUILD_IMAGES:-}" ] || NO_CACHE=1 "$root/tools/build_image.sh" "$1"
"$root/tools/check_image.sh" "$1"
