"""A table of real sentences: rows per second, tokenization included, of plain SQL and of tokenizers + rival with batches sorted by length.

distil's side is a client on the same core that runs SELECT distil_embed(body) and receives every vector in binary form.  The rivals get
what they are best at: texts sorted by length, padded batches, mean pooling in numpy.  Everybody is called for half a second at each turn,
as shapes.py does: the first call finds the caches full of others' weights.
"""
import os

import numpy as np

import ours
import rivals
import shapes

MAX_TOKENS = 256
ROUND_SECONDS = 0.5
BATCHES = (8, 32)
CONTENDERS = ("OpenVINO f32", "ONNX Runtime plain", "CTranslate2 float32", "OpenVINO bf16", "OpenVINO int8 calibrated",
              "OpenVINO int8 calibrated, rest bf16", "OpenVINO int8 dynamic 128", "CTranslate2 int8_float32", "ONNX Runtime int8")


def pipeline(folder, rival):
    """embed(texts, batch) -> [texts, width], normalised."""
    from tokenizers import Tokenizer
    run = rival.open(folder)
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)

    def embed(texts, batch=1):
        rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        out = None
        for first in range(0, len(rows), batch):
            part = order[first:first + batch]
            ids = np.zeros((len(part), len(rows[part[0]])), np.int64)
            mask = np.zeros_like(ids)
            for i, row in enumerate(part):
                ids[i, :len(rows[row])] = rows[row]
                mask[i, :len(rows[row])] = 1
            hidden = run(ids, None if mask.all() else mask)
            weight = mask[:, :, None].astype(np.float32)
            pooled = (hidden * weight).sum(1) / weight.sum(1)
            if out is None:
                out = np.empty((len(rows), pooled.shape[1]), np.float32)
            out[part] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return out
    return embed


def sentence_transformers(folder, dtype):
    import torch
    from sentence_transformers import SentenceTransformer
    torch.set_num_threads(1)
    model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
    return lambda texts, batch=1: model.encode(texts, batch_size=batch, normalize_embeddings=True, show_progress_bar=False)


def binary_vectors(result):
    """real[] values of a binary result, without one Python object per number."""
    rows = []
    for i in range(result.ntuples):
        value = result.get_value(i, 0)
        rows.append(np.frombuffer(value, ">i4", offset=20).reshape(-1, 2)[:, 1].view(">f4"))
    return np.array(rows, np.float32)


def through_sql(server, model, precision, core):
    """load(texts), embed(texts) and the backend: the rows of a table as one statement, loaded before the clock starts."""
    db = server.connect(core)
    name = server.set_precision(db, model, precision)

    def load(texts):
        db.execute("CREATE TEMP TABLE IF NOT EXISTS bench_texts (id int, body text)")
        db.execute("TRUNCATE bench_texts")
        with db.cursor().copy("COPY bench_texts FROM STDIN") as copy:
            for row in enumerate(texts):
                copy.write_row(row)
        db.execute("ANALYZE bench_texts")

    def embed(_):
        return ours.execute(db, f"SELECT distil_embed(body, '{name}') FROM bench_texts ORDER BY id")
    return load, embed, db.info.backend_pid


def one_text(server, model, precision, core):
    """embed([text]) and the backend."""
    db = server.connect(core)
    name = server.set_precision(db, model, precision)

    def embed(texts):
        return ours.execute(db, "SELECT distil_embed($1, $2)", texts[0], name)
    return embed, db.info.backend_pid


def at_best_batch(embed, texts):
    """embed with the size of batches that is fastest on a sample, and that size."""
    spent = {}
    for batch in BATCHES * 2:
        began = shapes.processor_time()
        embed(texts, batch)
        spent[batch] = min(spent.get(batch, 1e9), shapes.processor_time() - began)
    batch = min(spent, key=spent.get)
    return lambda texts: embed(texts, batch), batch


def products(folder, texts):
    """Operations of the encoder's products for these texts, without padding."""
    from tokenizers import Tokenizer
    from transformers import AutoConfig
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    config = AutoConfig.from_pretrained(folder)
    return sum(shapes.operations(config, len(encoding.ids)) for encoding in tokenizer.encode_batch(texts))


def fastest(embed, backend, texts, seconds):
    """What embed(texts) gives and the least time it takes of all calls in so many seconds."""
    out, least, began = None, 1e9, shapes.processor_time(backend)
    while shapes.processor_time(backend) - began < seconds or out is None:
        start = shapes.processor_time(backend)
        out = embed(texts)
        least = min(least, shapes.processor_time(backend) - start)
    return out, least


def rates(report, title, contenders, texts, reference, work, peaks, rounds):
    """contenders: name -> (precision, embed, backend or None); work: operations of all texts."""
    times, similar = {name: [] for name in contenders}, {}
    peaks.begin()
    precisions = {name: contender[0] for name, contender in contenders.items()}
    for i in range(-1, rounds):
        peaks.measure()
        late = shapes.slow({name: min(x) for name, x in times.items()}, precisions) if i >= shapes.SLOW_ROUNDS else ()
        for name, (_, embed, backend) in contenders.items():
            if name in late:
                continue
            out, seconds = fastest(embed, backend, texts, ROUND_SECONDS)
            if i < 0:
                out = out if isinstance(out, np.ndarray) else binary_vectors(out)
                similar[name] = (out * reference).sum(1) / np.linalg.norm(out, axis=1)
            else:
                times[name].append(seconds)
    rate = {name: len(texts) / min(x) for name, x in times.items()}

    def best(*precisions):
        return max(rate[name] for name in rate if not name.startswith("distil ") and contenders[name][0] in precisions)
    report.section(title)
    report.table(["engine", "precision", "rows/s", "of best rival's speed", "of best of its precision", "of peak", "of peak from cache",
                  "cosine to float32, mean", "least"],
                 [[name, contenders[name][0], rate[name], f"{rate[name] / best(*shapes.PRECISIONS):.2f}x",
                   f"{rate[name] / best(contenders[name][0]):.2f}x",
                   *shapes.shares(1e-9 * work * rate[name] / len(texts), peaks.best, contenders[name][0]), f"{similar[name].mean():.6f}", f"{similar[name].min():.6f}"]
                  for name in sorted(rate, key=lambda name: -rate[name])])


def calls(report, title, contenders, texts, rounds):
    """One text per call, end to end."""
    times = shapes.alternate({name: lambda x=x: one_by_one(x[1], x[2], texts) for name, x in contenders.items()},
                             {name: x[0] for name, x in contenders.items()}, rounds)
    best = min(times[name][0] for name in times if not name.startswith("distil "))
    report.section(title)
    report.table(["engine", "precision", "ms a text", "of best rival's speed"],
                 [[name, contenders[name][0], times[name][0], f"{best / times[name][0]:.2f}x"]
                  for name in sorted(times, key=lambda name: times[name][0])])


def one_by_one(embed, backend, texts):
    """Mean of the texts, in ms, twice: as alternate() wants it."""
    began = shapes.processor_time(backend)
    for text in texts:
        embed([text])
    spent = 1e3 * (shapes.processor_time(backend) - began) / len(texts)
    return spent, spent


def run(report, server, model, folder, precisions, sets, core, peaks, options):
    """sets: title -> texts."""
    by_name = {rival.name: rival for rival in rivals.RIVALS}
    others = {name: (by_name[name].precision, pipeline(folder, by_name[name]), None) for name in CONTENDERS}
    others["sentence-transformers"] = ("float32", sentence_transformers(folder, "float32"), None)
    others["sentence-transformers bf16"] = ("bfloat16", sentence_transformers(folder, "bfloat16"), None)
    tables = {precision: through_sql(server, model, precision, core) for precision in precisions}
    single = {f"distil {precision}, SELECT": (precision, *one_text(server, model, precision, core)) for precision in precisions}
    single.update(others)
    for title, texts in sets.items():
        contenders = {}
        for precision, (load, embed, backend) in tables.items():
            load(texts)
            contenders[f"distil {precision}, SELECT"] = (precision, embed, backend)
        for name, (precision, embed, _) in others.items():
            fixed, batch = at_best_batch(embed, texts[::len(texts) // 64 or 1])
            contenders[f"{name}, batches of {batch}"] = (precision, fixed, None)
        reference = others["sentence-transformers"][1](texts, 32)
        rates(report, f"{len(texts)} {title}: rows per second", contenders, texts, reference, products(folder, texts), peaks,
              2 if options.quick else 10)
        calls(report, f"{title}, one per call: milliseconds from text to vector", single, texts[:10 if options.quick else 40], 3)
