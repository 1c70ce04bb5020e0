#!/usr/bin/env bash
# distil from nothing, on a fresh Debian 12 or 13, as root or with sudo:
# PostgreSQL embeds its own manual with a sentence model, answers questions by meaning, and distils a smaller student.
#
#   examples/quickstart.sh                 do it all; the server stays to play with; run again, it reuses what is there
#   examples/quickstart.sh --model DIR     with another Hugging Face model folder instead of all-MiniLM-L6-v2
#   examples/quickstart.sh --all           the whole manual instead of an even sample of about 0.5 million tokens
#   examples/quickstart.sh --remove        stop the server and remove everything this script made
#
# Everything lives in $DISTIL_QUICKSTART (default /var/tmp/distil-quickstart); installed Debian packages stay.
set -euo pipefail

# shellcheck source=../test/setup.sh
. "$(dirname "$0")/../test/setup.sh"
home=${DISTIL_QUICKSTART:-/var/tmp/distil-quickstart}
model_dir=
sample='id % 2 = 0'
remove=

while [ $# -gt 0 ]; do
  case $1 in
    --model) model_dir=$(realpath -- "${2:?--model needs a folder}"); shift ;;
    --all) sample=true ;;
    --remove) remove=yes ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown argument $1 (try --help)" ;;
  esac
  shift
done

work=$home/work
stage=$home/stage
started=$SECONDS

sql() { server_sql "$home" quickstart "$@"; }
value() { sql -At -c "$1"; }

remove_everything() {
  [ -d "$home" ] || { echo "nothing to remove: $home does not exist"; return; }
  [ -f "$home/.distil-quickstart" ] || die "$home was not made by this script"
  pg_bin=$(cat "$home/pg_bin" 2>/dev/null || true)
  [ -z "$pg_bin" ] || stop_private_server "$home"
  rm -rf -- "$home"
  echo "removed $home (Debian packages stay)"
}

make_home() {
  if [ -d "$home" ] && [ ! -f "$home/.distil-quickstart" ] && [ -n "$(ls -A "$home")" ]; then
    die "$home exists and is not a quickstart folder: set DISTIL_QUICKSTART to another place"
  fi
  mkdir -p "$home" "$work"
  chmod 755 "$home"
  touch "$home/.distil-quickstart"
}

build() {
  say "Building distil for PostgreSQL $pg"
  rm -rf "$work/src" "$stage"
  mkdir -p "$work/src" "$stage"
  tar -C "$top" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude=./build -cf - . | tar -C "$work/src" -xf -
  build_stage "$work/src" "$stage"
  rm -rf "$work/src"
  touch "$stage/.built"
}
up_to_date() { [ -f "$stage/.built" ] && [ -z "$(find "$top/src" "$top/kernels" "$top"/*.sql -newer "$stage/.built" -name '*.[chsq]*' | head -n 1)" ]; }

start_server() {
  say "Starting a private server"
  private_server "$home" "$stage" <<CONF
session_preload_libraries = 'distil'
max_wal_size = '4GB'
maintenance_work_mem = '512MB'
CONF
  [ -n "$(server_sql "$home" postgres -At -c "SELECT 1 FROM pg_database WHERE datname = 'quickstart'")" ] ||
    server_sql "$home" postgres -c 'CREATE DATABASE quickstart'
  sql -c 'SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS distil'
  vector=
  if [ -n "$(value "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")" ]; then
    vector=yes
    sql -c 'SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS vector; CREATE EXTENSION IF NOT EXISTS distil_vector'
  fi
}

# The teacher: the real all-MiniLM-L6-v2, or the folder that was named.
fetch_model() {
  [ -z "$model_dir" ] || return 0
  model_dir=$home/all-MiniLM-L6-v2
  [ -f "$model_dir/model.safetensors" ] || say "Fetching all-MiniLM-L6-v2"
  fetch_minilm "$model_dir"
}

import_model() {
  teacher=$(basename "$model_dir" | tr '[:upper:]' '[:lower:]')
  student=$teacher-3
  [ -z "$(value "SELECT 1 FROM distil_models WHERE name = '$teacher'")" ] || return 0
  say "Importing the model"
  [ "$(id -u)" != 0 ] || chmod a+rx "$home"
  sql -v path="$model_dir" -v teacher="$teacher" <<'SQL'
SELECT distil_import(:'teacher', :'path') AS imported;
SELECT name, architecture, layers, dimensions, parameters, pg_size_pretty(bytes) AS size FROM distil_models;
SQL
}

# The manual of this very server, out of its documentation package (slim images leave /usr/share/doc out).
load_manual() {
  [ -z "$(value "SELECT to_regclass('passages')")" ] || return 0
  say "Loading the PostgreSQL $pg manual"
  need_packages python3
  (cd "$work" && apt-get download -qq "postgresql-doc-$pg" 2>/dev/null) || die "could not download postgresql-doc-$pg"
  dpkg-deb -x "$work"/postgresql-doc-"$pg"_*.deb "$work/doc"
  python3 "$top/examples/manual_passages.py" "$(find "$work/doc" -type d -name html | head -n 1)" >"$work/passages.csv"
  rm -rf "$work/doc" "$work"/postgresql-doc-*.deb
  sql <<SQL
BEGIN;
CREATE TEMP TABLE manual (id int GENERATED ALWAYS AS IDENTITY, page text, section text, body text);
\copy manual (page, section, body) FROM '$work/passages.csv' (FORMAT csv)
CREATE TABLE passages (
    id        int PRIMARY KEY,
    page      text NOT NULL,
    section   text NOT NULL,
    body      text NOT NULL,
    unseen    bool NOT NULL,   -- kept out of the training, to judge the student by
    embedding $type,
    student   $type
);
INSERT INTO passages SELECT id, page, section, body, id % 20 = 0 FROM manual WHERE $sample ORDER BY id;
COMMIT;
ANALYZE passages;
SELECT count(*) AS passages, sum(distil_token_count(body, '$teacher')) AS tokens FROM passages;
SQL
}

# What the manual lacks: the words of everyday life, as WordNet's definitions and examples use them.
load_glosses() {
  [ -z "$(value "SELECT to_regclass('glosses')")" ] || return 0
  say "Loading sentences of everyday English: WordNet's definitions and examples"
  (cd "$work" && apt-get download -qq wordnet-base 2>/dev/null) || die "could not download wordnet-base"
  dpkg-deb -x "$work"/wordnet-base_*.deb "$work/wordnet"
  cat "$work"/wordnet/usr/share/wordnet/data.{noun,verb,adj,adv} | sed -n 's/^[0-9][^|]*| //p' >"$work/glosses.txt"
  rm -rf "$work/wordnet" "$work"/wordnet-base_*.deb
  sql <<SQL
BEGIN;
CREATE TEMP TABLE wordnet (id int GENERATED ALWAYS AS IDENTITY, gloss text);
\copy wordnet (gloss) FROM '$work/glosses.txt' (FORMAT csv, ENCODING 'latin1', DELIMITER E'\x01', QUOTE E'\x02')
CREATE TABLE glosses AS   -- an even sample, about as many as the manual has sentences
    SELECT btrim(part, ' "') AS body FROM wordnet, regexp_split_to_table(gloss, ';\s+') AS part
    WHERE id % 3 = 0 AND length(part) > 20;
COMMIT;
SELECT count(*) AS glosses FROM glosses;
SQL
}

# embed COLUMN MODEL: one UPDATE over the table; remembers the passages per second.
embed() {
  local seconds
  [ "$(value "SELECT count(*) FROM passages WHERE $1 IS NULL")" != 0 ] || return 0
  say "Embedding the manual with $2: UPDATE passages SET $1 = distil_embed(body, '$2')"
  seconds=$(sql -At <<SQL
SELECT extract(epoch FROM clock_timestamp()) AS started \gset
UPDATE passages SET $1 = distil_embed(body, '$2');
SELECT round((extract(epoch FROM clock_timestamp()) - :started)::numeric, 3);
SQL
  )
  sql <<SQL
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS speed (model text PRIMARY KEY, seconds numeric, passages bigint);
INSERT INTO speed SELECT '$2', $seconds, count(*) FROM passages;
SQL
  [ -z "$vector" ] || sql -c "CREATE INDEX ON passages USING hnsw ($1 vector_cosine_ops)"
  value "SELECT passages || ' passages in ' || seconds || ' s: ' || round(passages / seconds) || ' per second' FROM speed WHERE model = '$2'"
}

# ask QUESTION: the nearest passages, by index where pgvector is there.
ask() {
  local order
  if [ -n "$vector" ]; then order="embedding <=> distil_embed_query_vector(:'question', '$teacher')"
  else order="distil_cosine(embedding, distil_embed_query(:'question', '$teacher')) DESC"; fi
  printf '\n%s\n' "$1"
  sql -At -F ' ' -v question="$1" <<SQL
SELECT '  - [' || section || '] ' || left(body, 160) || '...' FROM passages ORDER BY $order LIMIT 2;
SQL
}

distil_student() {
  local job steps
  job=$(value "SELECT max(job) FROM distil_jobs WHERE student = '$student' AND finished_at IS NULL")
  [ -z "$job" ] || sql -c "CALL distil_wait($job)"   # of a run before this one
  [ -z "$(value "SELECT 1 FROM distil_models WHERE name = '$student'")" ] || return 0
  load_glosses
  # half the training where the processor has no fast bfloat16, so that it takes minutes there too
  steps=$(value "SELECT CASE WHEN passages > 100 * seconds THEN 900 ELSE 450 END FROM speed WHERE model = '$teacher'")
  say "Distilling $student: three layers learn to give the vectors of $teacher"
  sql <<SQL
CREATE OR REPLACE VIEW corpus AS   -- the manual's passages (without those kept out), sentences, clauses and titles, and the glosses
    WITH seen AS (SELECT section, body FROM passages WHERE NOT unseen),
         sentences AS (SELECT s FROM seen, regexp_split_to_table(body, '(?<=[.:;])\s+') AS s WHERE length(s) > 20)
    SELECT body FROM seen
    UNION ALL SELECT s FROM sentences
    UNION ALL SELECT c FROM sentences, regexp_split_to_table(s, '[,()]| and | or | that | which | if | when ') AS c
        WHERE length(c) > 12 AND c <> s
    UNION ALL (SELECT DISTINCT section FROM seen)
    UNION ALL SELECT body FROM glosses;
CALL distil_train('$teacher', 'corpus', student => '$student', method => 'embedding',
                  options => '{"layers": 3, "max_steps": $steps}', wait => true);
SQL
}

# The student as it was before training: shows what the training gave.
truncated_teacher() {
  [ -z "$(value "SELECT 1 FROM distil_models WHERE name = '$student-untrained'")" ] || return 0
  sql -c "SET client_min_messages = warning" \
    -c "CALL distil_train('$teacher', 'corpus', student => '$student-untrained', method => 'embedding',
                          options => '{\"layers\": 3, \"max_steps\": 0}', wait => true)"
}

report() {
  say "Teacher and student, on passages and questions never trained on"
  local real=
  [ -z "$vector" ] || real=::real[]
  sql <<SQL
CREATE TEMP TABLE vectors AS   -- of unseen passages, by each model
    SELECT id, embedding$real AS teacher, student$real AS student, distil_embed(body, '$student-untrained') AS untrained
    FROM passages WHERE unseen;
CREATE TEMP TABLE questions AS
    SELECT section, distil_embed_query(section, '$teacher') AS teacher, distil_embed_query(section, '$student') AS student,
           distil_embed_query(section, '$student-untrained') AS untrained
    FROM (SELECT DISTINCT section FROM passages WHERE unseen AND section ~ ' ' AND section !~ ':' ORDER BY section LIMIT 200) s;
CREATE TEMP TABLE found AS
    SELECT q.section, t.ids AS teacher, s.ids AS student, u.ids AS untrained FROM questions q,
    LATERAL (SELECT array_agg(id) ids FROM (SELECT id FROM vectors v ORDER BY distil_dot(v.teacher, q.teacher) DESC LIMIT 10) x) t,
    LATERAL (SELECT array_agg(id) ids FROM (SELECT id FROM vectors v ORDER BY distil_dot(v.student, q.student) DESC LIMIT 10) x) s,
    LATERAL (SELECT array_agg(id) ids FROM (SELECT id FROM vectors v ORDER BY distil_dot(v.untrained, q.untrained) DESC LIMIT 10) x) u;
\pset border 1
SELECT m.name AS model, m.layers, m.parameters, pg_size_pretty(m.bytes) AS size,
       round(s.passages / s.seconds) AS "passages/s",
       round(a.cosine::numeric, 4) AS "mean cosine", round(a.recall::numeric, 3) AS "recall@10"
FROM distil_models m LEFT JOIN speed s ON s.model = m.name JOIN (
    SELECT '$teacher' AS name, 1.0 AS cosine, 1.0 AS recall, 1 AS place
    UNION ALL SELECT '$student', (SELECT avg(distil_cosine(teacher, student)) FROM vectors),
        (SELECT avg(cardinality(ARRAY(SELECT unnest(teacher) INTERSECT SELECT unnest(student)))) / 10 FROM found), 2
    UNION ALL SELECT '$student-untrained', (SELECT avg(distil_cosine(teacher, untrained)) FROM vectors),
        (SELECT avg(cardinality(ARRAY(SELECT unnest(teacher) INTERSECT SELECT unnest(untrained)))) / 10 FROM found), 3
) a USING (name) ORDER BY a.place;
SQL
  echo "mean cosine: of a model's vector and the teacher's for the same unseen passage; recall@10: share of the teacher's ten"
  echo "nearest passages that the model finds too, for section titles as questions."
}

goodbye() {
  say "Done in $((SECONDS - started)) seconds. The server stays:"
  cat <<TXT
  psql -h $home/run -p $(cat "$home/port") -U postgres quickstart
  (or over TCP: psql -h 127.0.0.1 -p $(cat "$home/port") -U postgres quickstart, password in $home/password)

Your own text: CREATE TABLE docs (id int, body text); \\copy docs FROM 'docs.csv' (FORMAT csv)
  ALTER TABLE docs ADD embedding real[]; UPDATE docs SET embedding = distil_embed(body, '$teacher');
  SELECT id, body FROM docs ORDER BY distil_cosine(embedding, distil_embed_query('a question', '$teacher')) DESC LIMIT 5;
  CALL distil_train('$teacher', 'docs', column_name => 'body', wait => true);

Remove everything again: $0 --remove
TXT
}

if [ -n "$remove" ]; then remove_everything; exit; fi
make_home
need_server
[ "$pg_bin" = "$(cat "$home/pg_bin" 2>/dev/null)" ] || echo "$pg_bin" >"$home/pg_bin"
if [ "$pg" -ge 17 ] && [ -n "$(apt-cache policy "postgresql-$pg-pgvector" 2>/dev/null | sed -n 's/^  Candidate: [0-9].*/yes/p')" ]; then
  need_packages "postgresql-$pg-pgvector"
fi
up_to_date || build
start_server
fetch_model
import_model
type='real[]'
[ -z "$vector" ] || type="vector($(value "SELECT dimensions FROM distil_models WHERE name = '$teacher'"))"
load_manual
embed embedding "$teacher"
say "Questions, answered by meaning"
ask "How do I back up a database that is in use?"
ask "Why does my query not use the index?"
ask "How can I stop two sessions from changing the same row?"
distil_student
truncated_teacher
embed student "$student"
report
goodbye
