#!/usr/bin/env bash
# Downloads a published model and makes the folder that the server reads: tools/fetch_model.sh REPOSITORY REVISION FOLDER
#
#   tools/setup.sh fetch && tools/fetch_model.sh lambdalabs/sd-image-variations-diffusers v2.0 /models/sd-variations
#
# Whoever runs it has read the model's licence. Nothing is done when FOLDER is there. What is downloaded (HF_TOKEN, HF_ENDPOINT
# and kin are huggingface_hub's) is kept under TMPDIR until it is converted, caches too; FOLDER appears whole, whoever else
# makes it too.
set -euo pipefail
[ $# = 3 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
repository=$1 revision=$2 folder=$3
here=$(cd "$(dirname "$0")" && pwd)
venv=${VENV:-$here/../.venv}
[ -e "$folder/model_index.json" ] && { echo "fetch_model: $folder is there"; exit 0; }

work=$(mktemp -d -t fetch-model.XXXXXX)
new=$folder.new.$(basename "$work")
trap 'rm -rf "$work" "$new"' EXIT
export HF_HUB_CACHE=$work/hub HF_XET_CACHE=$work/xet
mkdir -p "$(dirname "$folder")"
"${HF:-$venv/bin/hf}" download "$repository" --revision "$revision" --local-dir "$work/download"
if ls "$work"/download/unet/*.safetensors >/dev/null 2>&1; then
  rm -rf "$work/download/.cache"
  cp -r "$work/download" "$new"
else
  "$venv/bin/python" "$here/convert_checkpoint.py" "$work/download" "$new"
fi
mv -T "$new" "$folder" 2>/dev/null || [ -e "$folder/model_index.json" ]
echo "fetch_model: $repository@$revision is in $folder"
