"""What a user of a server sees: a whole table against the engine's own rate, parallel workers and threads, the first call of a connection,
memory, cancelling.  Rates are the best of alternating runs: of two at least, and of no more once they have taken their time."""
import random
import statistics
import threading
import time

import psycopg

import ours
import shapes

MANY_CONNECTIONS, FEW_CONNECTIONS = 100, 10
RUNS_SECONDS = 60
TABLE = "SELECT distil_embed(body) FROM passages"


def seconds(db, statement):
    began = time.perf_counter()
    ours.execute(db, statement)
    return time.perf_counter() - began


def processor_seconds(db, statement):
    began = shapes.processor_time(db.info.backend_pid)
    seconds(db, statement)
    return shapes.processor_time(db.info.backend_pid) - began


def rounds_of(options):
    """Numbers of rounds: two at least, five unless the time for them is over."""
    began = time.monotonic()
    for i in range(1 if options.quick else 5):
        if i < 2 or time.monotonic() - began < RUNS_SECONDS:
            yield i


def whole_table(report, server, engine, model, precision, path, core, options):
    """One statement over the table against the engine over the same texts."""
    runs = {"SELECT": [], "UPDATE": [], "engine": []}
    with server.connect(core) as db:
        db.execute("SELECT set_config('distil.default_model', %s, false)", (server.set_precision(db, model, precision),))
        db.execute("ALTER TABLE passages ADD COLUMN IF NOT EXISTS e real[]")
        for _ in rounds_of(options):
            n, _, spent = engine.embed(path)
            runs["engine"].append(n / spent)
            runs["SELECT"].append(n / processor_seconds(db, TABLE))
            runs["UPDATE"].append(n / processor_seconds(db, "UPDATE passages SET e = distil_embed(body)"))
    rate = {name: max(x) for name, x in runs.items()}
    for name in ("SELECT", "UPDATE"):
        report.append([f"{name} over {n} passages, {precision}", rate[name], "rows/s",
                       f"{100 * rate[name] / rate['engine']:.1f} % of the engine's {rate['engine']:.0f} rows/s"])


def two_cores(report, server, engines, model, precision, path, options):
    """Two parallel workers, and two threads, against two engine processes on a core each."""
    runs = {"workers": [], "threads": [], "processes": []}
    with server.connect() as db:
        db.execute("SELECT set_config('distil.default_model', %s, false)", (server.set_precision(db, model, precision),))
        db.execute("ALTER TABLE passages SET (parallel_workers = 2)")
        for name in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
            db.execute(f"SET {name} = 0")
        db.execute("SET parallel_leader_participation = off")
        for _ in rounds_of(options):
            for engine in engines:
                engine.send("embed", path)
            both = [engine.embedded() for engine in engines]
            runs["processes"].append(sum(n / passed for n, passed, _ in both))
            n = both[0][0]
            db.execute("SET max_parallel_workers_per_gather = 2")
            db.execute("SET distil.threads = 1")
            runs["workers"].append(n / seconds(db, TABLE))
            db.execute("SET max_parallel_workers_per_gather = 0")
            db.execute("SET distil.threads = 2")
            runs["threads"].append(n / seconds(db, TABLE))
    rate = {name: max(x) for name, x in runs.items()}
    for name in ("workers", "threads"):
        report.append([f"two {name} over {n} passages, {precision}", rate[name], "rows/s",
                       f"{100 * rate[name] / rate['processes']:.1f} % of two pinned engine processes' {rate['processes']:.0f} rows/s"])


def first_call(report, server, core):
    times = []
    for _ in range(30):
        with server.connect(core) as db:
            began = time.perf_counter()
            db.execute("SELECT distil_embed('how do I restore a backup?')").fetchone()
            times.append((time.perf_counter() - began) * 1e3)
    report.append(["first embedding of a fresh connection", statistics.median(times), "ms", "median of 30"])


def short_query(report, server, model, precision, core):
    times = []
    with server.connect(core) as db:
        db.execute("SELECT set_config('distil.default_model', %s, false)", (server.set_precision(db, model, precision),))
        for i in range(300):
            began = time.perf_counter()
            ours.execute(db, "SELECT distil_embed($1)", f"how do I restore backup {i}?")
            times.append((time.perf_counter() - began) * 1e3)
    report.append([f"one short text, warm, {precision}", statistics.median(times[20:]), "ms", "median of 280, end to end"])


def private_dirty(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_Dirty")) / 1024


def mapped_copies(pid):
    """Files of models that a backend has mapped."""
    with open(f"/proc/{pid}/maps") as maps:
        return {tuple(line.split()[3:5]) for line in maps if "/pgsql_tmp_distil/" in line}


def memory(report, server, model, precision, connections):
    """Beyond what the connection had before its first call; all of them at once."""
    used, open_ones, copies = [], [], set()
    for _ in range(connections):
        db = server.connect()
        db.execute("SELECT set_config('distil.default_model', %s, false)", (server.set_precision(db, model, precision),))
        db.execute("SELECT count(*) FROM distil_models").fetchone()
        db.execute("SELECT upper(body) FROM passages LIMIT 300").fetchall()
        before = private_dirty(db.info.backend_pid)
        ours.execute(db, TABLE + " LIMIT 100")
        used.append(private_dirty(db.info.backend_pid) - before)
        open_ones.append(db)
        copies |= mapped_copies(db.info.backend_pid)
    for db in open_ones:
        db.close()
    report.append([f"private memory of a connection, {precision}", statistics.median(used), "MB",
                   f"Private_Dirty after 100 passages beyond before its first call; largest of {connections}: {max(used):.1f}; "
                   f"{len(copies)} shared copy of the model mapped by all"])


def cancel(report, server, count):
    """From the cancel to the answer, at random moments; a thread that is left is an error."""
    times = []
    with server.connect() as db:
        def work(i):
            try:
                db.pgconn.exec_(f"SELECT distil_embed(body || '{i}') FROM passages".encode())
            finally:
                ended.append(time.perf_counter())

        def threads():
            with open(f"/proc/{db.info.backend_pid}/status") as status:
                return int(next(line.split()[1] for line in status if line.startswith("Threads:")))

        for i in range(count):
            if i == count // 10:  # buffers have their size
                before = private_dirty(db.info.backend_pid)
            ended = []
            thread = threading.Thread(target=work, args=(i,))
            thread.start()
            time.sleep(0.01 + random.random() * 0.15)
            sent = time.perf_counter()
            db.cancel()
            thread.join()
            if ended[0] > sent:
                times.append((ended[0] - sent) * 1e3)
        grown = private_dirty(db.info.backend_pid) - before
        time.sleep(6)
        left = threads() - 1
    if left:
        raise RuntimeError(f"{left} threads are left after {count} cancels")
    times.sort()
    report.append([f"cancel to answer, p99 of {len(times)}", times[int(len(times) * 0.99)], "ms",
                   f"median {times[len(times) // 2]:.1f}, longest {times[-1]:.1f}; memory grown by {grown:.1f} MB, no thread left"])


def run(report, server, program, model, images, path, core, options):
    """images: precision -> copy of the model."""
    rows = []
    for precision, image in images.items():
        engine = ours.Engine(program, image)
        whole_table(rows, server, engine, model, precision, path, core, options)
        engine.close()
        if len(options.cores) > 1:
            engines = [ours.Engine(program, image, core=c) for c in options.cores[:2]]
            two_cores(rows, server, engines, model, precision, path, options)
            for engine in engines:
                engine.close()
        short_query(rows, server, model, precision, core)
        memory(rows, server, model, precision, MANY_CONNECTIONS if precision == "int8" and not options.quick else FEW_CONNECTIONS)
    first_call(rows, server, core)
    cancel(rows, server, 100 if options.quick else 1000)
    report.section("Through SQL")
    report.table(["what", "figure", "unit", "how"], rows)
