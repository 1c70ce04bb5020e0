"""distil's side of the benchmark: a server with models in each precision, and the engine over the very copies that the server maps."""
import os
import re
import subprocess

import numpy as np
import psycopg

LAYOUTS = {"float32": "f32", "bfloat16": "bf16", "int8": "int8"}


def execute(db, statement, *parameters):
    """The binary result as libpq has it, without an object for each number."""
    result = db.pgconn.exec_params(statement.encode(), [x.encode() for x in parameters] or None, result_format=1)
    if result.status not in (psycopg.pq.ExecStatus.TUPLES_OK, psycopg.pq.ExecStatus.COMMAND_OK):
        raise RuntimeError(result.error_message.decode())
    return result


class Server:
    """Connections are as a user's; pin(core) keeps a backend where its client is."""

    def __init__(self, socket, port, isa="auto"):
        """isa: of the sessions' distil.isa."""
        self.isa = isa
        self.address = dict(host=socket, port=port, user="postgres", dbname="postgres")

    def connect(self, core=None):
        db = psycopg.connect(autocommit=True, **self.address)
        db.execute("SET jit = off")
        db.execute("SET client_min_messages = error")
        db.execute("SET max_parallel_workers_per_gather = 0")
        db.execute("SELECT set_config('distil.isa', %s, false)", (self.isa,))
        if core is not None:
            db.execute("SET distil.threads = 1")
            os.sched_setaffinity(db.info.backend_pid, {core})
        return db

    def quantize(self, model):
        """MODEL-int8, or the reason why not."""
        with self.connect() as db:
            try:
                db.execute("SELECT distil_quantize(%s, %s, 'int8')", (model, model + "-int8"))
            except (psycopg.errors.UndefinedFunction, psycopg.errors.FeatureNotSupported) as error:
                return str(error).split("\n")[0]
        return None

    def set_precision(self, db, model, precision):
        """Name of the model to call in this precision."""
        if precision == "int8":
            return model + "-int8"
        db.execute("SELECT set_config('distil.precision', %s, false)", (precision,))
        return model

    def image(self, model, precision):
        """The mapped copy of a model in a precision: its path, or None where this build or CPU has none."""
        with self.connect() as db:
            try:
                name = self.set_precision(db, model, precision)
                db.execute("SELECT distil_embed('x', %s)", (name,))
            except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject, psycopg.errors.FeatureNotSupported):
                return None
            folder = db.execute("SHOW data_directory").fetchone()[0]
            with open(f"/proc/{db.info.backend_pid}/maps") as maps:
                copy = re.search(r"pgsql_tmp_distil/[0-9a-f]{64}\." + LAYOUTS[precision] + r"\w*$", maps.read(), re.MULTILINE)
        return copy and os.path.join(folder, copy.group())


class Engine:
    """The driver in C (bench_image) over one copy; runs on the cores of its starter, or on `core`."""

    def __init__(self, program, image, isa="auto", core=None):
        pin = [] if core is None else ["taskset", "-c", str(core)]
        self.process = subprocess.Popen([*pin, program, image, isa], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, *words):
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline().split()
        if not line:
            raise RuntimeError("the engine's driver ended")
        return line

    def time(self, ids, seconds):
        """Median and best of one text's forward passes, in ms."""
        self.send("time", seconds, *ids)
        return tuple(map(float, self.answer()[1:]))

    def hidden(self, ids):
        self.send("hidden", *ids)
        tokens, width = map(int, self.answer())
        return np.frombuffer(self.process.stdout.read(4 * tokens * width), np.float32).reshape(tokens, width)

    def embed(self, path):
        """Texts of a whole file, and the seconds that passed and those of the processor, tokenizer included."""
        self.send("embed", path)
        return self.embedded()

    def embedded(self):
        texts, passed, processor = self.answer()
        return int(texts), float(passed), float(processor)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
