#!/usr/bin/env bash
# Every test, on a fresh Debian 12 or 13, as root or with sudo:
#
#   test/check.sh              all of it
#   test/check.sh SUITE...     some of: layers unit sanitizer fuzz server other gpu, or testing
#
# Installs the packages the tests need, builds in a temporary folder with -Wall -Wextra -Werror, runs unit tests (also
# under ASan and UBSan, those with threads under TSan), goldens, a short run of each fuzzer, and pg_regress, isolation and TAP tests on a private server
# as an unprivileged user; then the server tests again in a chroot of the other Debian (PostgreSQL 15 or 17, pgvector on 17).
# testing, which is not one of all, runs them in a chroot of Debian testing, which has a later PostgreSQL and compiler.
# Cleans up.  Closing line: "N passed, N failed, N skipped".
set -euo pipefail

# shellcheck source=setup.sh
. "$(dirname "$0")/setup.sh"
export OPENBLAS_NUM_THREADS=1
fuzz_seconds=${DISTIL_FUZZ_SECONDS:-20}
suites=${*:-layers unit sanitizer fuzz server other gpu}
passed=0 failed=0 skipped=0 failures=()
for s in $suites; do
  case " layers unit sanitizer fuzz server other gpu testing " in *" $s "*) ;; *) die "unknown suite: $s" ;; esac
done

work=$(mktemp -d /var/tmp/distil-check.XXXXXX)
chmod 755 "$work"
tree=$work/src
stage=$work/stage

cleanup() {
  local status=$?
  [ -z "${chroot:-}" ] || chroot_unmount
  ! mountpoint -q "$work/server/small_disk" || umount "$work/server/small_disk"
  rm -rf --one-file-system "$work"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

wanted() { case " $suites " in *" $1 "*) return 0 ;; esac; return 1; }

skip() {
  skipped=$((skipped + 1))
  printf 'skipped: %s\n' "$*"
}

# suite NAME COMMAND...: runs it; its "N passed, N failed[, N skipped]" lines are added up; a failure without one counts as one.
suite() {
  local name=$1 status=0 log p f s began=$SECONDS
  shift
  log=$work/$name.log
  "$@" >"$log" 2>&1 || status=$?
  p=$(sed -n 's/^\([A-Za-z_0-9.-]*: \)\{0,1\}\([0-9]*\) passed, \([0-9]*\) failed.*/\2/p' "$log" | awk '{n += $1} END {print n + 0}')
  f=$(sed -n 's/^\([A-Za-z_0-9.-]*: \)\{0,1\}\([0-9]*\) passed, \([0-9]*\) failed.*/\3/p' "$log" | awk '{n += $1} END {print n + 0}')
  s=$(sed -n 's/.* passed, [0-9]* failed, \([0-9]*\) skipped.*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
  [ "$status" = 0 ] || [ "$f" -gt 0 ] || f=1
  [ "$status" != 0 ] || [ $((p + f + s)) -gt 0 ] || { f=1; echo "the suite ran no test" >>"$log"; }
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  printf '%-28s %5d passed %3d failed %3d skipped  (%d s)\n' "$name" "$p" "$f" "$s" $((SECONDS - began))
  grep -E '^skipped: ' "$log" | sed 's/^/    /' || true
  if [ "$f" -gt 0 ]; then
    failures+=("$name")
    tail -n 60 "$log" | sed 's/^/    | /'
  fi
}

copy_tree() {
  mkdir -p "$tree"
  tar -C "$top" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude=./build -cf - . | tar -C "$tree" -xf -
}

# ---- suites ----

run_layers() {
  (cd "$tree" && bash test/check_layers.sh && bash test/check_symbols.sh)
}

run_unit() { make -C "$tree" -s -j2 unit "$@"; }

# The CUDA kernels compiled for the CPU.
run_emulated() { make -C "$tree" -s -j2 unit-cuda; }

# Each fuzzer for a short while over its kept corpus; a new crash fails.
run_fuzzers() {
  local f name status=0
  make -C "$tree" -s -j2 fuzz || return 1
  for f in "$tree"/build/fuzz/fuzz_*; do
    [ -x "$f" ] || continue
    name=${f##*/fuzz_}
    mkdir -p "$work/corpus/$name" "$tree/test/fuzz/corpus/$name"
    if (cd "$work" && timeout $((fuzz_seconds * 4 + 60)) "$f" -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=3000 \
      -print_final_stats=0 "$work/corpus/$name" "$tree/test/fuzz/corpus/$name" >"$work/fuzz_$name.log" 2>&1); then
      echo "fuzz_$name: 1 passed, 0 failed"
    else
      status=1
      tail -n 40 "$work/fuzz_$name.log"
      echo "fuzz_$name: 0 passed, 1 failed"
    fi
  done
  return $status
}

# pg_regress writes "ok"/"not ok" (16 and later) or "test x ... ok" (15): one line per test becomes a count.
count_regress() {
  local log=$1 ok bad
  ok=$(grep -cE '^(ok |test .* \.\.\. ok|     [a-z_0-9]+ +\.\.\. ok)' "$log" || true)
  bad=$(grep -cE '^(not ok |test .*(FAILED|failed)|     [a-z_0-9]+ +\.\.\. FAILED)' "$log" || true)
  echo "$2: $ok passed, $bad failed"
}

server_files() {
  rm -rf "$work/server"
  mkdir -p "$work/server"
  mkdir -p "$work/server/isolation"
  cp -R "$tree/sql" "$tree/expected" "$tree/test" "$tree/examples" "$work/server/"
  server_settings "$stage" >"$work/server/stage.conf"
  printf "session_preload_libraries = 'distil'\nfsync = off\nmax_prepared_transactions = 4\n" >>"$work/server/stage.conf"
  [ "$(id -u)" != 0 ] || chown -R "$(server_user):" "$work/server"
}

run_regress() {
  local status=0 pgxs tests
  pgxs=$(dirname "$("$pg_config" --pgxs)")
  tests=$(sed -n 's/^REGRESS *= *//p' "$tree/Makefile")
  [ -n "$vector" ] || tests=${tests// distil_vector/}
  (cd "$work/server" && PG_ABS_SRCDIR=$work/server as_server_user "$pgxs/../test/regress/pg_regress" --bindir="$pg_bin" \
    --inputdir=. --outputdir=. --temp-instance="$work/server/instance" --temp-config="$work/server/stage.conf" \
    --encoding=UTF8 --no-locale $tests) >"$work/regress.out" 2>&1 || status=$?
  cat "$work/regress.out"
  [ "$status" = 0 ] || cat "$work/server/regression.diffs" 2>/dev/null || tail -n 30 "$work/server/log/postmaster.log"
  count_regress "$work/regress.out" regress
  return $status
}

run_isolation() {
  local status=0 pgxs specs
  pgxs=$(dirname "$("$pg_config" --pgxs)")
  specs=$(cd "$tree/test/isolation/specs" && ls ./*.spec 2>/dev/null | sed 's/.*\///; s/\.spec$//' | tr '\n' ' ')
  [ -n "$specs" ] || { echo "isolation: 0 passed, 1 failed"; return 1; }
  (cd "$work/server" && PG_ABS_SRCDIR=$work/server as_server_user "$pgxs/../test/isolation/pg_isolation_regress" --bindir="$pg_bin" \
    --inputdir=test/isolation --outputdir=isolation --temp-instance="$work/server/instance_iso" \
    --temp-config="$work/server/stage.conf" --encoding=UTF8 --no-locale $specs) >"$work/isolation.out" 2>&1 || status=$?
  cat "$work/isolation.out"
  [ "$status" = 0 ] || cat "$work/server/isolation/regression.diffs" 2>/dev/null
  count_regress "$work/isolation.out" isolation
  return $status
}

# A file system of its own that a test may fill: needs root.
make_small_disk() {
  mkdir -p "$1"
  [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=4m,mode=700,uid="$(id -u postgres)" tmpfs "$1" 2>/dev/null
}

# Counts test scripts; prove names the failing ones and says why one is skipped.
run_tap() {
  local pgxs t small_disk='' log=$work/prove.log status=0
  pgxs=$(dirname "$("$pg_config" --pgxs)")
  make_small_disk "$work/server/small_disk" && small_disk=$work/server/small_disk
  for t in "$tree"/test/t/*.pl; do
    t=$(basename "$t")
    if (cd "$work/server" && PATH="$pg_bin:$PATH" TEMP_CONFIG="$work/server/stage.conf" PG_REGRESS="$pgxs/../test/regress/pg_regress" \
      TESTDATADIR="$work/server/tmp_check" TESTLOGDIR="$work/server/tmp_check/log" PG_ABS_SRCDIR="$work/server" \
      DISTIL_SMALL_DISK="$small_disk" \
      as_server_user prove -I "$pgxs/../test/perl" -I "$work/server/test/t" "test/t/$t") 2>&1 | tee "$log"; then
      if grep -q '\.\. skipped: ' "$log"; then
        sed -n "s|.*\.\. skipped: |skipped: tap.$t: |p" "$log"
        echo "tap.$t: 0 passed, 0 failed, 1 skipped"
      else
        echo "tap.$t: 1 passed, 0 failed"
      fi
    else
      status=1
      echo "tap.$t: 0 passed, 1 failed"
    fi
  done
  return $status
}

server_suites() {
  vector=
  if [ "$pg" -ge 17 ]; then need_packages "postgresql-$pg-pgvector" && vector=yes; fi
  need_packages libipc-run-perl perl
  build_stage "$tree" "$stage" COPT="-Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare"
  [ -n "$vector" ] || skip "distil_vector: pgvector is not packaged for PostgreSQL $pg on this Debian"
  server_files
  suite "$1symbols" bash -c "cd '$tree' && bash test/check_symbols.sh"
  suite "$1regress" run_regress
  suite "$1isolation" run_isolation
  suite "$1tap" run_tap
}

# ---- the other Debian ----

chroot_unmount() { ! mountpoint -q "$chroot" || umount -l "$chroot"; }

# The other of Debian 12 and 13.
other_debian() {
  local here
  here=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  case $here in
    bookworm) debian_server trixie ;;
    trixie) debian_server bookworm ;;
    *) skip "other Debian: this is neither Debian 12 nor 13 ($here)" ;;
  esac
}

# debian_server NAME: the server tests in a chroot with that Debian's PostgreSQL; the system is kept below /var/cache for the next run.
debian_server() {
  local other=$1 cache=/var/cache/distil mirror file
  [ "$(id -u)" = 0 ] || { skip "other Debian ($other): a chroot needs root"; return; }
  [ -z "${DISTIL_CHECK_INSIDE:-}" ] || return 0
  need_packages debootstrap util-linux
  mirror=$(awk '/security/ {next} $1 == "URIs:" {print $2; exit} $1 == "deb" {print ($2 ~ /^\[/ ? $4 : $2); exit}' \
    /etc/apt/sources.list.d/* /etc/apt/sources.list 2>/dev/null || true)
  chroot=$work/$other
  mkdir -p "$cache" "$chroot"
  if [ ! -s "$cache/$other.tar" ]; then
    if ! debootstrap --variant=minbase --include=ca-certificates "$other" "$chroot" "${mirror:-http://deb.debian.org/debian}" \
      >"$work/debootstrap.log" 2>&1; then
      tail -n 5 "$work/debootstrap.log"
      skip "other Debian ($other): debootstrap could not fetch it"
      return
    fi
    tar -C "$chroot" -cf "$cache/$other.tar.part" . && mv "$cache/$other.tar.part" "$cache/$other.tar"
  else
    tar -C "$chroot" -xf "$cache/$other.tar"
  fi
  chmod 755 "$chroot"
  cp -L /etc/resolv.conf /etc/hosts "$chroot/etc/" 2>/dev/null || true
  for file in /etc/apt/apt.conf.d/99*; do [ ! -e "$file" ] || cp "$file" "$chroot$file"; done
  cp -RL /etc/ssl/certs/. "$chroot/etc/ssl/certs/" 2>/dev/null || true
  # a mount of its own, private: so that this works where / is no mount, and nothing mounted below is seen outside
  mount --bind "$chroot" "$chroot"
  mount --make-private "$chroot"
  mount -t proc proc "$chroot/proc"
  mount -t sysfs sys "$chroot/sys"
  mount --rbind /dev "$chroot/dev"
  mount --make-rslave "$chroot/dev"
  mkdir -p "$chroot/src"
  tar -C "$top" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude=./build -cf - . | tar -C "$chroot/src" -xf -
  suite "$other" env -i HOME=/root TERM=dumb LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    DISTIL_CHECK_INSIDE=1 unshare --pid --fork --kill-child --propagation unchanged --mount-proc="$chroot/proc" \
    chroot "$chroot" bash -c 'cd /src && exec bash test/check.sh server'
  chroot_unmount
}

# ---- all of it ----

say "Preparing"
need_server
need_packages binutils procps
copy_tree
if wanted layers; then suite layers bash -c "cd '$tree' && bash test/check_layers.sh"; fi
if wanted unit; then suite unit run_unit; fi
if wanted sanitizer; then
  suite unit-sanitizers run_unit SAN=1
  suite unit-threads run_unit SAN=thread
fi
if wanted fuzz; then
  need_packages clang llvm
  clang_major=$(clang -dumpversion | cut -d. -f1)
  need_packages "libclang-rt-$clang_major-dev"
  suite fuzz run_fuzzers
fi
if wanted server; then server_suites ''; fi
if wanted other; then other_debian; fi
if wanted testing; then debian_server testing; fi
if wanted gpu; then
  need_packages g++
  suite cuda-emulated run_emulated
  suite gpu bash "$tree/test/check_gpu.sh"
fi

[ ${#failures[@]} = 0 ] || printf '\nfailed: %s\n' "${failures[*]}"
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
