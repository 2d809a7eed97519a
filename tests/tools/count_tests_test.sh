#!/usr/bin/env bash
# Holds tools/count_tests.sh to the closing lines of ctest 3 and 4: count_tests_test.sh PATH_OF_THE_SCRIPT.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
problems=0

expect() {  # expect CODE LINE [LOG LINE]...
  local code=$1 line=$2 actual
  printf '%s\n' "${@:3}" >"$log"
  actual=$("$script" "$log")
  local actual_code=$?
  if [[ $actual != "$line" || $actual_code != "$code" ]]; then
    echo "for '${*:3}': '$actual', code $actual_code; expected '$line', code $code"
    problems=1
  fi
}

script=$1
skipped=" 3/47 Test  #3: deploy/image_cpu .................***Skipped   0.01 sec"
expect 0 "58 passed, 0 failed, 0 skipped" "100% tests passed, 0 tests failed out of 47" "100% tests passed out of 11"
expect 1 "46 passed, 1 failed, 0 skipped" "98% tests passed, 1 tests failed out of 47"
expect 1 "56 passed, 2 failed, 0 skipped" "100% tests passed out of 47" "82% tests passed, 2 tests failed out of 11"
expect 0 "45 passed, 0 failed, 2 skipped" "$skipped" "100% tests passed, 0 tests failed out of 47" "${skipped/3\//12\/}"
expect 1 "0 passed, 0 failed, 1 skipped" "$skipped" "100% tests passed, 0 tests failed out of 1"
expect 1 "0 passed, 0 failed, 0 skipped" "no test ran"
exit "$problems"
