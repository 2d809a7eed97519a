#!/usr/bin/env bash
# The main job, end to end: starts the server with the bundled model, makes variations, shows where they are, stops it.
#   demo/run.sh            four variations of a penguin          -> out/demo
#   demo/run.sh --all      the same of all pictures              -> out/demo-all
#   demo/run.sh --readme   the same of five, for the README      -> docs/contact-sheet.png
# BIN is the folder of the two programs; MODEL the model's.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-build/release/bin}
model=${MODEL:-demo/model}
# Threads that wait soon give their core away. By default they spin, which on a busy machine takes it from those that work.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}

case ${1:-} in
  '') pictures=(demo/pictures/penguin.png) output=out/demo sheet=out/demo/contact-sheet.png ;;
  --all) pictures=(demo/pictures/*.png demo/pictures/*.jpg) output=out/demo-all sheet=out/demo-all/contact-sheet.png ;;
  --readme)
    pictures=(demo/pictures/{penguin,fox,turtle,watermelon,blocked}.png)
    output=out/demo-readme sheet=docs/contact-sheet.png ;;
  *) sed -n '2,6s/^# *//p' "$0"; exit 2 ;;
esac
mkdir -p "$output" "$(dirname "$sheet")"

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
echo "demo: making four variations of each of ${#pictures[@]} picture(s):"

# Status 3: every picture was answered, but the safety checker blocked samples, as it must of blocked.png.
"$bin/image-variations" vary "${pictures[@]}" -n 4 --seed 1 --steps 25 --force \
  -o "$output" --sheet "$sheet" --server "$address" || [ $? = 3 ]
echo "demo: source and variations side by side: $sheet"
