"""One text per call: the forward pass on the same token ids, distil and all rivals in turn, for each model and length.

The rule a newcomer would break: peers alternate within each round, so that a change of the machine's clock touches all of them.  What
counts is the fastest call in processor time, on an idle machine the time that passes: other work on the machine can only make it longer.
A rival that after two rounds takes more than twice as long as the best of its precision is measured no more.
"""
import gc
import glob
import statistics
import time

import numpy as np

import rivals

PRECISIONS = ("float32", "bfloat16", "int8")
SLOW, SLOW_ROUNDS = 2, 2


def processor_time(backend=None):
    """Seconds of processor time of this process, and of the server process that works for it."""
    spent = time.process_time()
    if backend is not None:
        for path in glob.glob(f"/proc/{backend}/task/*/schedstat"):
            with open(path) as file:
                spent += 1e-9 * int(file.read().split()[0])
    return spent


def timed(run, ids, seconds):
    """Median and best in ms of calls for so long, two at least, after an untimed one."""
    run(ids)
    times, began = [], processor_time()
    while len(times) < 2 or processor_time() - began < seconds:
        start = processor_time()
        run(ids)
        times.append(processor_time() - start)
    return 1e3 * statistics.median(times), 1e3 * min(times)


def slow(best, precisions):
    """Names of rivals that cannot be the best of their precision any more; both by name."""
    rivals_best = {}
    for name, precision in precisions.items():
        if not name.startswith("distil "):
            rivals_best[precision] = min(best[name], rivals_best.get(precision, best[name]))
    return {name for name, precision in precisions.items()
            if not name.startswith("distil ") and best[name] > SLOW * rivals_best[precision]}


def alternate(calls, precisions, rounds, peaks=None):
    """calls: name -> () -> (median, best).  Name -> (best of its rounds, median of their medians), the order rotating by round.  The peak
    is measured in each."""
    names, got = list(calls), {name: [] for name in calls}
    for i in range(rounds):
        if peaks:
            peaks.measure()
        late = slow({name: min(b for _, b in got[name]) for name in names}, precisions) if i >= SLOW_ROUNDS else ()
        for name in names[i % len(names):] + names[:i % len(names)]:
            if name not in late:
                got[name].append(calls[name]())
    return {name: (min(b for _, b in x), statistics.median(m for m, _ in x)) for name, x in got.items()}


def cosine(a, b):
    """Smallest cosine of the texts' mean vectors [texts, tokens, width]."""
    a, b = np.asarray(a, np.float64).mean(-2), np.asarray(b, np.float64).mean(-2)
    return float(((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min())


def operations(config, tokens):
    """Of the encoder's products, two for each multiplication with its sum."""
    width, mlp = config.hidden_size, getattr(config, "intermediate_size", None) or config.hidden_dim
    return config.num_hidden_layers * (2 * tokens * (4 * width * width + 2 * width * mlp) + 4 * tokens * tokens * width)


def one_length(folder, engines, ids, peers, failed, peaks, options):
    """(name, precision, any length, best, median, cosine) of each peer; the names of those that do not run are added to failed."""
    batch = np.array([ids], np.int64)
    rivals.forget_compiled()
    reference = rivals.torch_runner(folder, None)(batch)
    found, calls = {}, {}
    for precision, engine in engines.items():
        name = f"distil {precision}"
        found[name] = (precision, True, cosine(engine.hidden(ids)[None], reference))
        calls[name] = lambda engine=engine: engine.time(ids, options.seconds)
    for rival in peers:
        try:
            run = rival.open(folder, batch.shape)
            hidden = run(batch)
        except RuntimeError:
            if not options.isa:
                raise
            hidden = np.empty(0)
        # held to an instruction set some do not run, or give nothing at all
        if options.isa and hidden.shape[:2] != batch.shape:
            failed.add(rival.name)
            continue
        found[rival.name] = (rival.precision, rival.any_length, cosine(hidden, reference))
        calls[rival.name] = lambda run=run: timed(run, batch, options.seconds)
    times = alternate(calls, {name: found[name][0] for name in calls}, options.rounds, peaks)
    return [(name, *found[name][:2], *times[name], found[name][2]) for name in found]


def best_rival(rows, precision):
    """The fastest of those of a precision that take any length: (name, ms)."""
    return min(((row[0], row[3]) for row in rows if row[1] == precision and row[2] and not row[0].startswith("distil ")),
               key=lambda x: x[1], default=None)


def shares(rate, peaks, precision):
    """GFLOP/s as shares of both peaks."""
    return [f"{100 * rate / peak:.0f} %" for peak in peaks[precision]] if precision in peaks else ["", ""]


def show(report, rows, work, peaks):
    """A table by precision, each with its ratio to the best rival that takes any length."""
    table = []
    for precision in PRECISIONS:
        best = best_rival(rows, precision)
        for name, _, any_length, ms, median, similar in sorted((r for r in rows if r[1] == precision), key=lambda r: (not r[2], r[3])):
            rate = work / ms * 1e-6
            table.append([name, precision, ms, median, rate, *shares(rate, peaks, precision),
                          f"{best[1] / ms:.2f}x" if best else "", f"{similar:.6f}", "any length" if any_length else "this length only"])
        if not any(row[0] == f"distil {precision}" for row in rows):
            table.append([f"distil {precision}", precision, "not built", *[""] * 7])
    report.table(["engine", "precision", "ms", "median", "GFLOP/s", "of peak", "of peak from cache", "of best rival's speed", "cosine to float32", "takes"], table)


def run(report, model, folder, engines, lengths, token_ids, peaks, options, shown):
    """shown(tokens, rows) is told when a length's table is written."""
    from transformers import AutoConfig
    config = AutoConfig.from_pretrained(folder)
    offered = [rival for rival in rivals.RIVALS if rival.offered() and not (options.quick and "compiled" in rival.options)
               and not (options.isa and not rival.holds(options.isa))]
    missing = [rival.name for rival in rivals.RIVALS if rival not in offered]
    for tokens in lengths:
        failed = set()
        report.section(f"{model}, 1 x {tokens} tokens")
        peaks.begin()
        rows = one_length(folder, engines, token_ids(tokens), offered, failed, peaks, options)
        show(report, rows, operations(config, tokens), peaks.best)
        if failed:
            report.line(f"\nDid not run held to {options.isa}: {', '.join(sorted(failed))}.")
        if missing and tokens == lengths[-1]:
            report.line(f"\nNot run ({'left out by --quick, or ' if options.quick else ''}not offered on this CPU"
                        f"{', or not to be held' if options.isa else ''}): {', '.join(missing)}.")
        gc.collect()
        shown(tokens, rows)
