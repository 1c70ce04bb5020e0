#!/usr/bin/env bash
# The figures of distil beside its rivals', in one run on this machine: test/bench/run.sh
#
# Installs the rivals (onnxruntime, torch, transformers, tokenizers, sentence-transformers) in a virtual environment, builds, starts a
# private server, fetches all-MiniLM-L6-v2 and the PostgreSQL manual.  Prints figures and ratios; asserts nothing.
# Everything is in a temporary folder but the virtual environment ($DISTIL_BENCH_VENV, default /var/cache/distil/bench-venv).
set -euo pipefail

# shellcheck source=../setup.sh
. "$(dirname "$0")/../setup.sh"
venv=${DISTIL_BENCH_VENV:-/var/cache/distil/bench-venv}
work=$(mktemp -d /var/tmp/distil-bench.XXXXXX)
chmod 755 "$work"
finish() {
  [ -z "${pg_bin:-}" ] || stop_private_server "$work/server"
  rm -rf --one-file-system "$work"
}
trap finish EXIT
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 HF_HUB_OFFLINE=1

need_server
need_packages python3 python3-pip python3-venv ca-certificates
if ! "$venv/bin/python" -c 'import onnxruntime, torch, transformers, onnx, tokenizers, sentence_transformers, scipy, psycopg' 2>/dev/null; then
  say "Installing the rivals"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q onnxruntime torch transformers onnx tokenizers sentence-transformers scipy 'psycopg[binary]'
fi
say "Machine and rivals"
sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1
"$venv/bin/pip" list 2>/dev/null | grep -E '^(onnxruntime|torch|transformers|tokenizers|sentence-transformers) '

say "Building"
mkdir -p "$work/src" "$work/server"
tar -C "$top" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude=./build -cf - . | tar -C "$work/src" -xf -
build_stage "$work/src" "$work/stage"
make -C "$work/src" -s -j2 tools bench-engine >"$work/bench-build.log" 2>&1 || { tail -n 20 "$work/bench-build.log" >&2; die "the bench did not build"; }
fetch_minilm "$work/all-MiniLM-L6-v2"
(cd "$work" && apt-get download -qq "postgresql-doc-$pg" && dpkg-deb -x postgresql-doc-"$pg"_*.deb doc)
python3 "$top/examples/manual_passages.py" "$(find "$work/doc" -type d -name html | head -n 1)" >"$work/passages.csv"
bench=$work/src/build/unit
"$venv/bin/python" - "$work" <<'PY'
import csv, sys
rows = [row[2] for row in csv.reader(open(f"{sys.argv[1]}/passages.csv", encoding="utf-8"))]
open(f"{sys.argv[1]}/passages.txt", "w", encoding="utf-8").write("\n".join(rows) + "\n")
PY

say "Numbers: the engine against sentence-transformers"
"$venv/bin/python" "$top/test/golden/compare_embeddings.py" "$bench/tools/embed_lines" "$work/all-MiniLM-L6-v2" "$work/passages.txt"

say "Forward pass of the MiniLM shape, float32, one core: ONNX Runtime and distil in turn"
taskset -c 0 "$venv/bin/python" "$top/test/bench/compare_onnx.py" "$bench/bench/bench_engine" 2>/dev/null

say "Tokenizing, one core: distil, then the Rust tokenizers library"
taskset -c 0 "$bench/bench/bench_tokenizer" "$work/all-MiniLM-L6-v2" "$work/passages.txt"
taskset -c 0 "$venv/bin/python" "$top/test/bench/tokenizer_rival.py" "$work/all-MiniLM-L6-v2" "$work/passages.txt"

say "Through SQL"
private_server "$work/server" "$work/stage" <<CONF
fsync = off
autovacuum = off
max_wal_size = '4GB'
CONF
server_sql "$work/server" postgres <<SQL
SET client_min_messages = warning;
CREATE EXTENSION distil;
SELECT distil_import('minilm', '$work/all-MiniLM-L6-v2') \g /dev/null
CREATE TEMP TABLE manual (id int GENERATED ALWAYS AS IDENTITY, page text, section text, body text);
\copy manual (page, section, body) FROM '$work/passages.csv' (FORMAT csv)
CREATE TABLE passages AS SELECT id, body FROM manual WHERE id % 10 = 0;
SQL
"$venv/bin/python" "$top/test/bench/bench_sql.py" "$work/server/run" "$(cat "$work/server/port")" "$bench/tools/embed_lines" "$work/all-MiniLM-L6-v2"
