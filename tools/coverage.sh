#!/usr/bin/env bash
# Line coverage of own parsers of what is not trusted, by their unit tests and fuzz corpora: tools/coverage.sh
# Exits 1 below 90 % of all lines. Pictures, checkpoints, requests, flags, tokens and what callers say of themselves.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/coverage
tests=(codec_test jpeg_test png_test exif_orientation_test corpora_test folder_test json_value_test config_reader_test
  safetensors_test safetensors_header_test model_config_test weight_files_test hub_cache_test manifest_test model_dir_test
  request_validator_test variations_service_test limits_test refusals_test config_test json_web_token_test
  token_table_test authenticator_test identity_test trace_context_test
  decode_fuzz safetensors_fuzz config_fuzz request_fuzz identity_fuzz)

tools/setup.sh dev
cmake --preset dev -B $build -DCMAKE_CXX_FLAGS=--coverage >/dev/null
cmake --build $build --target "${tests[@]}" -- --quiet
find $build -name '*.gcda' -delete
for test in "${tests[@]}"; do
  corpus=tests/fuzz/corpus/${test%_fuzz}
  if [ -d "$corpus" ]; then $build/bin/"$test" "$corpus"; else $build/bin/"$test"; fi >/dev/null
done
cd $build  # where the compiler's paths begin
find "$PWD"/pipeline/{image,checkpoint,base} "$PWD"/server -name '*.gcda' -print0 | xargs -0 -n1 gcov --stdout 2>/dev/null |
  python3 ../../tools/coverage_table.py
