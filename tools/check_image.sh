#!/usr/bin/env bash
# Runs an image's server as a cluster would: tools/check_image.sh cpu|cuda [TAG]
#
# From the image's own root file system, read-only, as the image's user without rights; the CLI in the image calls it. Needs
# root and what tools/build_image.sh has built (exits 77 without). cuda: on a machine without GPU the server must say so in
# one line and end with 3.
set -euo pipefail
target=${1:?usage: tools/check_image.sh cpu|cuda [TAG]}
declare -A names=([cpu]=image-variations [cuda]=image-variations-cuda)
tag=${2:-${names[$target]}}
buildah inspect --type image "$tag" >/dev/null 2>&1 || { echo "skipped: run tools/build_image.sh $target first"; exit 77; }
fail() { echo "check_image: $*" >&2; exit 1; }

container=$(buildah from --pull-never "$tag")
root=$(buildah mount "$container")
trap 'buildah rm "$container" >/dev/null' EXIT
mkdir -p "$root"/{proc,dev,sys}  # as container runtimes do

user=$(buildah inspect --type image --format '{{.OCIv1.Config.User}}' "$tag")
[ "${user%%:*}" -ge 10000 ] || fail "the image runs as $user, expected a uid of at least 10000"
for absent in bin/sh usr/bin/sh usr/bin/bash usr/bin/dpkg usr/bin/apt usr/bin/perl usr/bin/python3; do
  [ ! -e "$root/$absent" ] || fail "the image has /$absent"
done
echo "check_image: ours $(du -shcx "$root"/usr/bin "$root"/usr/share "$root"/etc/ld.so.cache | tail -n 1 | cut -f1)," \
  "LibTorch $(du -shx "$root/usr/lib/image-variations" | cut -f1)," \
  "system libraries $(du -shx --exclude image-variations "$root/usr/lib" | cut -f1); user $user, no shell"
python3 - "$root" <<'EOF'
import hashlib, json, pathlib, sys
root = pathlib.Path(sys.argv[1])
sbom = json.loads((root / "usr/share/image-variations/sbom.spdx.json").read_text())
named = {f["fileName"]: f["checksums"][0]["checksumValue"] for f in sbom["files"]}
bad = [p["name"] for p in sbom["packages"] if not p.get("versionInfo") or not p.get("checksums")]
listed = [p for p in (root / "usr").rglob("*") if p.is_file() and "usr/lib/image-variations" not in str(p)
          and p.name != "sbom.spdx.json"]
for path in listed:
    name = "./" + str(path.relative_to(root))
    if named.get(name) != hashlib.sha256(path.read_bytes()).hexdigest():
        bad.append(name)
kinds = [p["externalRefs"][0]["referenceLocator"].split("/")[0] for p in sbom["packages"]]
print(f"check_image: SBOM: {kinds.count('pkg:deb')} Debian packages, {kinds.count('pkg:pypi')} wheels, "
      f"{sum('/model/' in n for n in named)} model files; {len(listed)} files of the image compared by sha256")
sys.exit(f"check_image: SBOM is wrong about {bad}" if bad else 0)
EOF

# In namespaces of its own: all of it ends with the test, and the root is read-only for everybody in it. Variables are the
# image's own, but for what lets it serve in plaintext.
mapfile -t variables < <(buildah inspect --type image --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$tag" | grep .)
work=$(mktemp -d)
trap 'buildah rm "$container" >/dev/null; rm -rf "$work"' EXIT
cat >"$work/inside" <<'EOF'
set -euo pipefail
root=$1 user=$2 target=$3 picture=$4 work=$5
shift 5
ip link set lo up
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
! touch "$root/tmp/x" 2>/dev/null
as_user=(env -i "$@" IMAGE_VARIATIONS_PLAINTEXT=anywhere IMAGE_VARIATIONS_LOG_LEVEL=error
  /usr/sbin/chroot --userspec="$user" "$root")
if [ "$target" = cuda ]; then
  code=0
  "${as_user[@]}" image-variations-server --device cuda:0 >"$work/said" 2>&1 || code=$?
  cat "$work/said"
  [ "$code" = 3 ] && [ "$(wc -l <"$work/said")" = 1 ] && grep -q "no device cuda:0" "$work/said"
  exit
fi
"${as_user[@]}" image-variations-server >"$work/said" &
server=$!
for _ in $(seq 300); do
  grep -q "^health on" "$work/said" && break
  kill -0 "$server"
  sleep 0.2
done
cat "$work/said"
grep -E "^(Uid|CapEff):" "$root/proc/$server/status"
"${as_user[@]}" image-variations health --server 127.0.0.1:50052
"${as_user[@]}" image-variations vary - -n 1 --seed 1 --steps 5 -o - --server 127.0.0.1:50051 <"$picture" >"$work/result"
kill -TERM "$server"
wait "$server"
EOF
unshare --mount --pid --net --fork --kill-child bash "$work/inside" "$root" "$user" "$target" \
  "$(dirname "$0")/../demo/pictures/penguin.png" "$work" "${variables[@]}" || fail "the server did not do its work"
if [ "$target" = cpu ]; then
  [ "$(head -c 4 "$work/result" | tail -c 3)" = PNG ] || fail "the CLI wrote no picture"
  echo "check_image: the CLI got a picture of $(stat -c %s "$work/result") bytes from the server in the image"
fi
