#!/usr/bin/env bash
# Runs an image as a cluster would: tools/check_image.sh cpu|cuda|fetch [TAG]
#
# From the image's own root file system, read-only, as the image's user without rights. cpu: the CLI in the image calls the
# server in it. cuda: on a machine without GPU the server must say so in one line and end with 3. fetch: downloads from a hub
# on loopback. Needs root and what tools/build_image.sh has built (exits 77 without).
set -euo pipefail
target=${1:?usage: tools/check_image.sh cpu|cuda|fetch [TAG]}
declare -A names=([cpu]=image-variations [cuda]=image-variations-cuda [fetch]=image-variations-fetch)
tag=${2:-${names[$target]}}
here=$(cd "$(dirname "$0")" && pwd)
command -v buildah >/dev/null && buildah inspect --type image "$tag" >/dev/null 2>&1 ||
  { echo "skipped: run tools/build_image.sh $target first"; exit 77; }
fail() { echo "check_image: $*" >&2; exit 1; }
inspect() { buildah inspect --type image --format "$1" "$tag"; }

container=$(buildah from --pull-never "$tag")
root=$(buildah mount "$container")
work=$(mktemp -d)
chmod 755 "$work"
trap 'buildah rm "$container" >/dev/null; rm -rf "$work"' EXIT
mkdir -p "$root"/{proc,dev,sys}  # as container runtimes do

user=$(inspect '{{.OCIv1.Config.User}}')
[ "${user%%:*}" -ge 10000 ] || fail "the image runs as $user, expected a uid of at least 10000"
version=$(inspect '{{index .OCIv1.Config.Labels "org.opencontainers.image.version"}}')
revision=$(inspect '{{index .OCIv1.Config.Labels "org.opencontainers.image.revision"}}')
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "label version is '$version'"
[[ $revision =~ ^[0-9a-f]{40}$ ]] || fail "label revision is '$revision', no commit"
echo "check_image: version $version, revision $revision, source '$(inspect '{{index .OCIv1.Config.Labels "org.opencontainers.image.source"}}')'"

if [ "$target" != fetch ]; then
  for absent in bin/sh usr/bin/sh usr/bin/bash usr/bin/dpkg usr/bin/apt usr/bin/perl usr/bin/python3; do
    [ ! -e "$root/$absent" ] || fail "the image has /$absent"
  done
  toolkit=$(find "$root" -xdev \( -name nvcc -o -name ptxas -o -name cicc -o -name '*.h' -o -name '*.a' \) | head -n 3)
  [ -z "$toolkit" ] || fail "the image has what only builds need: $toolkit"
  # The last layer is that of the programs: without LibTorch and Debian's libraries.
  ours=$(inspect '{{.Manifest}}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["layers"][-1]["size"])')
  echo "check_image: ours $ours bytes, LibTorch $(du -shx "$root/usr/lib/image-variations" | cut -f1)," \
    "system libraries $(du -shx --exclude image-variations "$root/usr/lib" | cut -f1); user $user, no shell, no toolkit"
  [ "$ours" -le 40000000 ] || fail "our layer is larger than 40 MB"
  python3 "$here/check_sbom.py" "$root"
fi

# In namespaces of its own: all of it ends with the test, and the root is read-only for everybody in it. Variables are the
# image's own, but for what lets the server serve in plaintext.
mapfile -t variables < <(inspect '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' | grep .)
mapfile -t entrypoint < <(inspect '{{range .OCIv1.Config.Entrypoint}}{{println .}}{{end}}' | grep .)
healthcheck=$(inspect '{{if .Docker.Config.Healthcheck}}{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}{{end}}')
export root user target work here healthcheck
cat >"$work/inside" <<'EOS'
set -euo pipefail
fail() { echo "check_image: $*" >&2; exit 1; }
ip link set lo up
mount --bind "$root" "$root"
# As the user, from inside: prints what became of it.
write() {
  python3 - "$root" "${user%%:*}" "${user##*:}" <<'EOP'
import errno, os, sys
os.chroot(sys.argv[1])
os.setgroups([])
os.setgid(int(sys.argv[3]))
os.setuid(int(sys.argv[2]))
try:
    open("/tmp/x", "wb").close()
    print("written")
except OSError as error:
    print(errno.errorcode[error.errno])
EOP
}
[ "$(write)" = written ] || fail "/tmp cannot be written to before it is read-only, so that this shows nothing"
rm "$root/tmp/x"
mount -o remount,ro,bind "$root"
said=$(write)
[ "$said" = EROFS ] || fail "writing to the read-only root file system: $said"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mapfile -t variables <"$work/variables"
mapfile -t entrypoint <"$work/entrypoint"
as_user=(env -i "${variables[@]}" IMAGE_VARIATIONS_PLAINTEXT=anywhere IMAGE_VARIATIONS_LOG_LEVEL=error
  /usr/sbin/chroot --userspec="$user" "$root")

check_fetch() {
  mkdir "$work/model"
  chown "$user" "$work/model"
  # What the chart mounts: 64 MiB at /tmp, the claim at /model.
  mkdir -p "$work/empty"
  mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/tmp"
  mount --bind "$work/model" "$root/srv"
  python3 "$here/../tests/deploy/model_hub.py" "$here/../demo/model" >"$work/hub" &
  until [ -s "$work/hub" ]; do sleep 0.1; done
  "${as_user[@]}" /usr/bin/env HF_ENDPOINT="$(cat "$work/hub")" TMPDIR=/srv "${entrypoint[@]}" org/model v1 /srv/made
  diff -r "$here/../demo/model" "$work/model/made"
  [ "$(ls "$work/model")" = made ] || fail "the download left something behind: $(ls "$work/model")"
}

check_cuda() {
  local code=0
  "${as_user[@]}" "${entrypoint[@]}" --device cuda:0 >"$work/said" 2>&1 || code=$?
  cat "$work/said"
  [ "$code" = 3 ] || fail "the server ended with $code, expected 3"
  [ "$(wc -l <"$work/said")" = 1 ] || fail "expected one line"
  grep -q 'no device cuda:0.*NVIDIA driver' "$work/said" || fail "expected a line that names the missing driver"
}

check_cpu() {
  : >"$work/said"
  "${as_user[@]}" "${entrypoint[@]}" >"$work/said" &
  local server=$!
  for _ in $(seq 300); do
    grep -q "^health on" "$work/said" && break
    kill -0 "$server"
    sleep 0.2
  done
  cat "$work/said"
  local ids rights
  ids=$(awk '/^Uid:/ { print $2, $3, $4, $5 }' "$root/proc/$server/status")
  rights=$(awk '/^CapEff:/ { print $2 }' "$root/proc/$server/status")
  [ "$ids" = "${user%%:*} ${user%%:*} ${user%%:*} ${user%%:*}" ] || fail "the server runs with the uids $ids"
  [ "$((16#$rights))" = 0 ] || fail "the server has the capabilities $rights"
  mapfile -t health <<<"$healthcheck"
  [ "${health[0]}" = CMD ] || fail "the image has no health check"
  "${as_user[@]}" "${health[@]:1}" || fail "the image's health check: ${health[*]:1}"
  "${as_user[@]}" image-variations vary - -n 1 --seed 1 --steps 5 -o - --server 127.0.0.1:50051 \
    <"$here/../demo/pictures/penguin.png" >"$work/result"
  kill -TERM "$server"
  wait "$server"
  if "${as_user[@]}" "${health[@]:1}" 2>/dev/null; then fail "the health check finds a server that has ended"; fi
  [ "$(head -c 4 "$work/result" | tail -c 3)" = PNG ] || fail "the CLI wrote no picture"
  echo "check_image: uid $ids, no capabilities, health check passed; the CLI got a picture of $(stat -c %s "$work/result") bytes"
}

"check_$target"
EOS
printf '%s\n' "${variables[@]}" >"$work/variables"
printf '%s\n' "${entrypoint[@]}" >"$work/entrypoint"
unshare --mount --pid --net --fork --kill-child bash "$work/inside" || fail "the image did not do its work"
echo "check_image: $target passed"
