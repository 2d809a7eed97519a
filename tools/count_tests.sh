#!/usr/bin/env bash
# Sums the closing lines of all ctest runs in a log: tools/count_tests.sh LOG prints "N passed, N failed, N skipped".
# Exits 1 if a test failed or if none ran. ctest counts skipped tests as passed, and leaves ", 0 tests failed" out since
# version 4.
set -euo pipefail
awk '
  match($0, /[0-9]+% tests passed(, [0-9]+ tests? failed)? out of [0-9]+/) {
    words = split(substr($0, RSTART, RLENGTH), word, " ")
    all += word[words]
    if (words > 6) failed += word[4]
  }
  /^ *[0-9]+\/[0-9]+ Test +#[0-9]+: .*\*\*\*Skipped/ { ++skipped }
  END {
    printf "%d passed, %d failed, %d skipped\n", all - failed - skipped, failed, skipped
    exit (failed > 0 || all <= skipped)
  }' "$1"
