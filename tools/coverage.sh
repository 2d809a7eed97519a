#!/usr/bin/env bash
# Line coverage of the code that reads untrusted bytes, by its unit tests and fuzz corpora: tools/coverage.sh
# Exits 1 below 90 % of all lines. What decodes pictures and reads checkpoints; needs nothing of gRPC.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/coverage
tests=(codec_test jpeg_test png_test exif_orientation_test corpora_test safetensors_test safetensors_header_test
  model_config_test weight_files_test config_reader_test decode_fuzz safetensors_fuzz config_fuzz)

tools/setup.sh dev
cmake --preset dev -B $build -DCMAKE_CXX_FLAGS=--coverage >/dev/null
cmake --build $build --target "${tests[@]}" -- --quiet
find $build -name '*.gcda' -delete
for test in "${tests[@]}"; do
  corpus=tests/fuzz/corpus/${test%_fuzz}
  if [ -d "$corpus" ]; then $build/bin/"$test" "$corpus"; else $build/bin/"$test"; fi >/dev/null
done
cd $build  # where the compiler's paths begin
find "$PWD"/pipeline/{image,checkpoint,base} -name '*.gcda' -print0 | xargs -0 -n1 gcov --stdout 2>/dev/null |
  python3 ../../tools/coverage_table.py
