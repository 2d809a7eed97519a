#!/usr/bin/env bash
# tools/fetch_model.sh with a download that copies the bundled model: fetch_model_test.sh VENV
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/hf" <<EOF
#!/usr/bin/env bash
echo "\$*" >>"$work/calls"
[ "\$1 \$2 \$3 \$4" = "download org/model --revision v1" ] && cp -r "$root/demo/model" "\$6"
EOF
chmod +x "$work/hf"
export HF=$work/hf VENV=$1 TMPDIR=$work
fetch() { "$root/tools/fetch_model.sh" org/model v1 "$work/made"; }

fetch
diff -r "$root/demo/model" "$work/made"
fetch | grep -q 'is there'
[ "$(wc -l <"$work/calls")" = 1 ] || { echo "downloaded again what was there"; exit 1; }
if "$root/tools/fetch_model.sh" org/other v1 "$work/none" 2>/dev/null || [ -e "$work/none" ]; then
  echo "a download that failed left a folder, or was no error"
  exit 1
fi
! ls -d "$work"/fetch-model.* "$work"/*.new.* 2>/dev/null
