#!/usr/bin/env bash
# The main job, end to end: starts the server with the bundled model, makes variations, shows where they are, stops it.
#   demo/run.sh            four variations of a penguin               -> out/demo
#   demo/run.sh --readme   every picture of demo/pictures, four each  -> docs/contact-sheet.png (the README's picture)
# BIN is the folder of the two programs; MODEL the model's.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-build/release/bin}
model=${MODEL:-demo/model}

case ${1:-} in
  '') pictures=(demo/pictures/penguin.png) output=out/demo ;;
  --readme) pictures=(demo/pictures/*.png demo/pictures/*.jpg) output=out/readme ;;
  *) sed -n '2,5s/^# *//p' "$0"; exit 2 ;;
esac
mkdir -p "$output"

# The server's first line on stdout names the port that it took; the end of its output means that it is gone.
log=$output/server.log
exec {server_output}< <(exec "$bin/image-variations-server" --model "$model" \
  --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 2>"$log")
server=$!
stop() { kill -TERM "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
address=
while read -r -t 300 line <&"$server_output"; do
  case $line in 'listening on '*) address=${line#listening on }; break ;; esac
done
[ -n "$address" ] || { echo "demo: the server did not start; $log says:" >&2; tail -n 20 "$log" >&2; exit 1; }
echo "demo: server with $model on $address (log: $log)"

"$bin/image-variations" vary "${pictures[@]}" -n 4 --seed 1 --steps 25 -o "$output" --server "$address"

if [ "${1:-}" = --readme ]; then
  mkdir -p docs
  cp "$output/contact-sheet.png" docs/contact-sheet.png
  echo "demo: docs/contact-sheet.png"
else
  echo "demo: the variations:"
  find "$output" -maxdepth 1 -name '*.png' ! -name contact-sheet.png | sort | sed 's/^/  /'
  echo "demo: the contact sheet, source and variations side by side:"
  echo "  $output/contact-sheet.png"
fi
