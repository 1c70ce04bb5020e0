#!/usr/bin/env bash
# Hours of what test/check.sh does for seconds: fuzzing, kills, cancels.  Run it before a release.
#
#   test/soak.sh [MINUTES]     minutes per fuzzer (default 10); kills and cancels in proportion
set -euo pipefail
minutes=${1:-10}
DISTIL_FUZZ_SECONDS=$((minutes * 60)) DISTIL_KILLS=$((minutes * 10)) DISTIL_CANCELS=$((minutes * 100)) \
  exec "$(dirname "$0")/check.sh" unit sanitizer fuzz server
