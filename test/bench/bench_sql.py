#!/usr/bin/env python3
"""What a user of a server sees: bench_sql.py SOCKET_FOLDER PORT EMBED_LINES MODEL_FOLDER

Needs psycopg.  The server has a model "minilm" and a table passages(id, body).  Prints name, value, unit, what:
rows per second of one UPDATE against the engine's own batch rate on the same texts, the first embedding of a fresh
connection, private memory of a backend, time from a cancel to its answer.  One core: run it pinned beside nothing else.
"""
import random
import re
import statistics
import subprocess
import sys
import threading
import time

import psycopg

SOCKET, PORT, TOOL, FOLDER = sys.argv[1:5]


def connect(**kwargs):
    return psycopg.connect(host=SOCKET, port=PORT, user="postgres", dbname="postgres", autocommit=True, **kwargs)


def show(name, value, unit, what):
    print(f"{name:34} {value:10.3f} {unit:7} {what}", flush=True)


def private_dirty(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_Dirty")) / 1024


def bulk():
    ratios = []
    with connect() as db:
        db.execute("SET jit = off")
        texts = [body for (body,) in db.execute("SELECT body FROM passages ORDER BY id")]
        lines = "".join(text.replace("\n", " ") + "\n" for text in texts).encode()
        db.execute("ALTER TABLE passages ADD COLUMN IF NOT EXISTS e real[]")
        for _ in range(3):
            engine = subprocess.run([TOOL, FOLDER, "time"], input=lines, stderr=subprocess.PIPE, check=True).stderr.decode()
            engine_rate = float(re.search(r"([0-9.]+) texts/s", engine).group(1))
            began = time.perf_counter()
            db.execute("UPDATE passages SET e = distil_embed(body)")
            sql_rate = len(texts) / (time.perf_counter() - began)
            ratios.append((sql_rate / engine_rate, sql_rate, engine_rate))
    ratio, sql_rate, engine_rate = sorted(ratios)[1]
    show("update.rows", sql_rate, "rows/s", f"UPDATE passages SET e = distil_embed(body), {len(texts)} passages")
    show("engine.rows", engine_rate, "rows/s", "the engine's own batch rate on the same texts, tokenizer included")
    show("update/engine", ratio, "ratio", "median of 3 alternating runs")


def first_call():
    times = []
    for _ in range(30):
        with connect() as db:
            began = time.perf_counter()
            db.execute("SELECT distil_embed('how do I restore a backup?')").fetchone()
            times.append((time.perf_counter() - began) * 1e3)
    show("first.embedding", statistics.median(times), "ms", "first statement of a fresh connection, median of 30")
    with connect() as db:
        times = []
        for i in range(200):
            began = time.perf_counter()
            db.execute("SELECT distil_embed(%s)", (f"how do I restore backup {i}?",)).fetchone()
            times.append((time.perf_counter() - began) * 1e3)
    show("warm.embedding", statistics.median(times), "ms", "one short text, warm, median of 200")


def memory():
    with connect() as db:
        pid = db.info.backend_pid
        db.execute("SELECT count(*) FROM distil_models").fetchone()
        db.execute("SELECT upper(body) FROM passages LIMIT 300").fetchall()
        before = private_dirty(pid)
        db.execute("SELECT distil_embed(body) FROM passages LIMIT 300").fetchall()
        after = private_dirty(pid)
    show("private.memory", after - before, "MB", "Private_Dirty of a backend after 300 passages, less before its first call")


def cancel():
    times = []
    with connect() as db:
        for i in range(300):
            answered = []

            def work():
                try:
                    db.execute("SELECT count(distil_embed(body || %s)) FROM passages", (str(i),))
                except psycopg.errors.QueryCanceled:
                    answered.append(time.perf_counter())

            thread = threading.Thread(target=work)
            thread.start()
            time.sleep(0.05 + random.random() * 0.15)
            sent = time.perf_counter()
            db.cancel()
            thread.join()
            if answered:
                times.append((answered[0] - sent) * 1e3)
    times.sort()
    show("cancel.p50", times[len(times) // 2], "ms", f"{len(times)} cancels at random points")
    show("cancel.p99", times[int(len(times) * 0.99)], "ms", "")
    show("cancel.max", times[-1], "ms", "")


if __name__ == "__main__":
    first_call()
    memory()
    cancel()
    bulk()
