#!/usr/bin/env bash
# Hours of what test/check.sh does for seconds: fuzzing, kills, cancels, want of memory.  Run it before a release.
#
#   test/soak.sh [MINUTES]     minutes per fuzzer (default 10); kills, cancels and limits of memory in proportion
set -euo pipefail
minutes=${1:-10}
DISTIL_FUZZ_SECONDS=$((minutes * 60)) DISTIL_KILLS=$((minutes * 10)) DISTIL_CANCELS=$((minutes * 100)) DISTIL_MEMORY_LIMITS=$minutes \
  exec "$(dirname "$0")/check.sh" unit sanitizer fuzz server
