#!/usr/bin/env bash
# Runs a test of this folder with what `tools/setup.sh deploy` installs: run.sh python|bash FILE [ARGUMENT...]
# Exits 77, which CTest shows as skipped, when that was not run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=${DEPLOY_VENV:-$here/../../.venv-deploy}
[ -e "$venv/.installed-deploy" ] || { echo "skipped: run tools/setup.sh deploy first"; exit 77; }
PATH=$venv/bin:$PATH exec "$1" "$here/$2" "${@:3}"
