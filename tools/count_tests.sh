#!/usr/bin/env bash
# Sums the closing lines of all ctest runs in a log: tools/count_tests.sh LOG prints "N passed, N failed".
# Exits 1 if a test failed or if none ran. ctest leaves ", 0 tests failed" out since version 4.
set -euo pipefail
awk '
  match($0, /[0-9]+% tests passed(, [0-9]+ tests? failed)? out of [0-9]+/) {
    words = split(substr($0, RSTART, RLENGTH), word, " ")
    all += word[words]
    if (words > 6) failed += word[4]
  }
  END { printf "%d passed, %d failed\n", all - failed, failed; exit (failed > 0 || all == 0) }' "$1"
