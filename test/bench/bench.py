#!/usr/bin/env python3
"""The figures of distil beside its rivals'; started by run.sh, which builds, installs and starts what this needs.

    bench.py --work DIR --programs DIR --model DIR --gpt2 DIR --socket DIR --port N --manual FILE --texts FILE --table FILE
             --results DIR [--quick] [--own FILE]... [--models NAMES] [--sections NAMES] [--isa NAME]

--manual: all of its passages, one per line.  --texts: some of them.  --table: the rows of the server's table passages(id, body).
--own: another file of texts for the tables, of any number.  --gpt2: a folder of GPT-2's tokenizer.
Models and sections are separated by commas; a choice of them is printed only, and written nowhere.  --isa: the engine and its rivals
held to a lower instruction set, shapes only; written to a file of its own, without a chart.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

import rivals

rivals.environment()
if "--isa" in sys.argv:
    rivals.hold(sys.argv[sys.argv.index("--isa") + 1])

# ruff: noqa: E402   the environment above must be set before these
import convert
import ours
import report as reports
import server as servers
import shapes
import tables

MODELS = ("MiniLM-L6", "distilbert", "bert-base")
LENGTHS = (16, 128, 512)
SECTIONS = ("shapes", "tables", "sql", "programs")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("work", "programs", "model", "gpt2", "socket", "port", "manual", "texts", "table", "results"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--own", action="append", default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", type=lambda names: names.split(","))
    parser.add_argument("--sections", type=lambda names: names.split(","))
    parser.add_argument("--isa", choices=rivals.ISAS)
    options = parser.parse_args()
    if options.isa:
        options.sections = ["shapes"]
    options.partial = options.models is not None or options.sections is not None and not options.isa
    options.models = options.models or list(MODELS[:1] if options.quick else MODELS)
    options.sections = options.sections or list(SECTIONS)
    if not set(options.models) <= set(MODELS) or not set(options.sections) <= set(SECTIONS):
        parser.error(f"models are {', '.join(MODELS)}, sections {', '.join(SECTIONS)}")
    options.rounds, options.seconds = (3, 0.1) if options.quick else (5, 0.2)
    options.cores = sorted(os.sched_getaffinity(0))
    return options


def most(a, b):
    return tuple(map(max, a, b))


class Peaks:
    """What one core reaches, measured again and again among the calls whose share of it is asked for: the clock drifts, and other guests
    of the machine slow the matrix unit down for minutes, so that one measurement may show half of it."""
    def __init__(self, program, isa):
        self.program, self.isa = program, isa
        self.kinds, self.best, self.times = {}, {}, 0

    def begin(self):
        """Forgets the peak of other minutes."""
        self.best = {}

    def measure(self):
        """best: (GFLOP/s, the same read from the first cache) of each precision since begin(), each the most of all kinds of products
        that this CPU, or the instruction set, has."""
        output = subprocess.run([self.program], capture_output=True, text=True, check=True).stdout
        for name, precision, rate, fed in map(str.split, output.splitlines()):
            if self.isa is None or name in rivals.ISAS[self.isa][0]:
                rates = float(rate), float(fed)
                self.kinds[name, precision] = most(self.kinds.get((name, precision), rates), rates)
                self.best[precision] = most(self.best.get(precision, rates), rates)
        self.times += 1

    def table(self, report):
        report.section(f"The peak of one core, the most of {self.times} measurements")
        report.line("Products of random numbers in registers, and read from the first cache as products of matrices do; GFLOP/s.  Shares of the\n"
                    "peak are those of the most that was measured in the rounds of the same table.\n")
        report.table(["instructions", "precision", "GFLOP/s", "read from cache"], [[*kind, *rates] for kind, rates in self.kinds.items()])


def verbatim(report, command):
    """What another program prints; whether it has found nothing wrong."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        for line in program.stdout:
            report.line(f"    {line.rstrip()}")
    return program.returncode == 0


def text_sets(passages, own, count):
    """Title -> texts: single sentences of up to 20 words, and whole passages."""
    sentences = [s for p in passages for s in re.split(r"(?<=[.?!]) (?=[A-Z])", p) if 4 <= len(s.split()) <= 20]
    sets = {"single sentences of the PostgreSQL manual": sentences, "passages of the PostgreSQL manual": passages}
    for name in own:
        with open(name, encoding="utf-8") as file:
            sets[f"lines of {os.path.basename(name)}"] = [line.rstrip("\n") for line in file if line.strip()]
    return {title: [texts[i * len(texts) // count] for i in range(min(count, len(texts)))] for title, texts in sets.items()}


def token_ids(folder, passages):
    """ids(n): n tokens of running text between [CLS] and [SEP]."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    first, *ids, last = tokenizer.encode(" ".join(passages[:60])).ids
    return lambda n: [first, *ids[:n - 2], last]


def folders(options, passages):
    """Model folders in every rival's format; the first one is always needed."""
    made = {}
    for name in [MODELS[0], *(name for name in options.models if name != MODELS[0])]:
        made[name] = os.path.join(options.work, name)
        if not os.path.exists(made[name]):
            if name == MODELS[0]:
                shutil.copytree(options.model, made[name])
            else:
                convert.make_random(made[name], name, options.model)
        os.system(f"chmod -R a+rX '{made[name]}'")
        print(f"converting {name}", flush=True)
        convert.convert(made[name], passages)
    return made


def images(report, server, folder, name):
    """Precision -> mapped copy of a model, which is imported and quantised here when it is not there yet."""
    with server.connect() as db:
        known = [row[0] for row in db.execute("SELECT name FROM distil_models WHERE name LIKE %s || '%%'", (name,))]
        if name not in known:
            db.execute("SELECT distil_import(%s, %s)", (name, folder))
    reason = None if name + "-int8" in known else server.quantize(name)
    if reason:
        report.line(f"\nint8 of {name}: not built ({reason})")
    found = {precision: server.image(name, precision) for precision in shapes.PRECISIONS if precision != "int8" or not reason}
    return {precision: image for precision, image in found.items() if image}


def bars(rows):
    """Of the chart: distil's and, of each precision, the best model of each library that takes any length."""
    chosen = []
    for precision in shapes.PRECISIONS:
        seen = set()
        for name, p, any_length, ms, _, _ in sorted(rows, key=lambda row: row[3]):
            library = name.split(" ")[0]
            if p == precision and any_length and library not in seen:
                seen.add(library)
                chosen.append((name, precision, ms, library == "distil"))
    return chosen


def part_of(model, tokens):
    return f"{model} at {tokens}"


def run_shapes(report, server, program, models, passages, peak, options):
    """The chart is of the first model at 128 tokens."""
    for name in options.models:
        copies = images(report, server, models[name], name)
        engines = {precision: ours.Engine(program, image, options.isa or "auto") for precision, image in copies.items()}

        def shown(tokens, rows, name=name):
            if (name, tokens) == (MODELS[0], 128) and not options.isa:
                report.chart(f"all-MiniLM-L6-v2, one text of 128 tokens, one core of {reports.cpu_name().split(' (')[0]}", bars(rows))
            report.done(part_of(name, tokens))
        shapes.run(report, name, models[name], engines, LENGTHS, token_ids(models[name], passages), peak, options, shown)
        for engine in engines.values():
            engine.close()


def run_programs(report, options):
    """Whether what they compare is equal."""
    here = os.path.dirname(os.path.abspath(__file__))
    unigram = os.path.join(options.work, "unigram")
    if not os.path.exists(unigram):
        subprocess.run([sys.executable, os.path.join(here, "make_unigram.py"), options.manual, unigram], check=True)
    report.section("Tokenizing: distil and the Rust tokenizers library")
    report.line("Passages of the PostgreSQL manual. WordPiece of all-MiniLM-L6-v2; byte-level BPE of GPT-2; Unigram of 250,002 pieces, as many\n"
                "as XLM-R's, out of the manual's words (`make_unigram.py`):\n")
    equal = verbatim(report, [sys.executable, os.path.join(here, "tokenizer_rival.py"), os.path.join(options.programs, "bench_tokenizer"),
                              options.texts, options.model, options.gpt2, unigram])
    report.section("Writing on: distil and PyTorch")
    report.line("A model of DistilGPT2's size, float32, random weights. The limit: each token reads all weights, as fast as this core reads them where\n"
                "they are (a mapped file in the page cache):\n")
    equal &= verbatim(report, [sys.executable, os.path.join(here, "generate_rival.py"), os.path.join(options.programs, "bench_generate"),
                               options.gpt2])
    report.section("Numbers: the engine against sentence-transformers")
    equal &= verbatim(report, [sys.executable, os.path.join(here, "..", "golden", "compare_embeddings.py"),
                               os.path.join(options.programs, "..", "tools", "embed_lines"), options.model, options.texts])
    return equal


def main():
    options = arguments()
    server = ours.Server(options.socket, options.port, options.isa or "auto")
    program = os.path.join(options.programs, "bench_image")
    with open(options.texts, encoding="utf-8") as file:
        passages = [line.rstrip("\n") for line in file]
    models = folders(options, passages[1::2])
    parts = [part_of(name, tokens) for name in options.models for tokens in LENGTHS] if "shapes" in options.sections else []
    parts += [section for section in SECTIONS[1:] if section in options.sections]
    report = reports.Report(options.results, options.isa, parts, not options.partial)
    report.line("\nRivals: " + ", ".join(f"{name} {version}" for name, version in rivals.versions().items()) + ".")
    core = options.cores[0]
    os.sched_setaffinity(0, {core})
    peak = Peaks(os.path.join(options.programs, "bench_peak"), options.isa)
    report.section("Rivals' settings")
    report.table(["rival", "settings"], [[rival.name, rival.settings] for rival in rivals.RIVALS])
    if "shapes" in options.sections:
        run_shapes(report, server, program, models, passages, peak, options)
        peak.table(report)
        report.write()
    if options.isa:
        return
    copies = images(report, server, models[MODELS[0]], MODELS[0])
    with server.connect() as db:
        db.execute("SELECT distil_set_default(%s)", (MODELS[0],))
    if "tables" in options.sections:
        sets = text_sets(passages[::2], options.own, 64 if options.quick else 256)
        tables.run(report, server, MODELS[0], models[MODELS[0]], copies, sets, core, peak, options)
        report.done("tables")
    if "sql" in options.sections:
        servers.run(report, server, program, MODELS[0], copies, options.table, core, options)
        report.done("sql")
    if "programs" in options.sections:
        equal = run_programs(report, options)
        report.done("programs")
        if not equal:
            sys.exit("a program of the last part found a difference")


if __name__ == "__main__":
    main()
