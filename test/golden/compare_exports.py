#!/usr/bin/env python3
"""Exports of every architecture and head, loaded by transformers and sentence-transformers: the same outputs?

    python compare_exports.py CONNECTION [SENTENCE_FOLDER]      needs psycopg, torch, transformers, sentence-transformers

CONNECTION: of a superuser to an empty database with extension distil, e.g. "host=/tmp dbname=scratch user=postgres".  Models of
models/ are imported from large objects, students are made of them by both methods, models created from configurations and quantised; all are
exported with distil_export(name), loaded with from_pretrained (no missing, unexpected or changed tensors) or SentenceTransformer,
and compared with what SQL gives.  SENTENCE_FOLDER: a full-size sentence model to do the same with.  Exit status 1 when a value
differs by more than 1e-4.
"""
import glob
import json
import os
import sys
import tempfile

import numpy as np
import psycopg
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = ["the cat sat on the mat .", "A QUICK brown fox, 42 lazy dogs & the river?", "the king of the city"]
TOLERANCE = 1e-4
ARCHITECTURES = ["albert", "bert", "distilbert", "roberta", "mpnet", "electra", "electra-small", "gpt2"]
failures = []
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class Server:
    def __init__(self, conninfo):
        self.connection = psycopg.connect(conninfo, autocommit=True)

    def value(self, sql, *args):
        return self.connection.execute(sql, args).fetchone()[0]

    def rows(self, sql, *args):
        return self.connection.execute(sql, args).fetchall()

    def run(self, sql, *args):
        self.connection.execute(sql, args)

    def import_files(self, name, files):
        objects = {f: self.value("SELECT lo_from_bytea(0, %s)::bigint", content) for f, content in files.items()}
        self.run("SELECT distil_import_objects(%s, %s::jsonb)", name, json.dumps(objects))
        for oid in objects.values():
            self.run("SELECT lo_unlink(%s::oid)", oid)

    def export(self, name, folder):
        for file, oid in self.rows("SELECT file, content::bigint FROM distil_export(%s)", name):
            path = os.path.join(folder, file)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(self.value("SELECT lo_get(%s::oid)", oid))
            self.run("SELECT lo_unlink(%s::oid)", oid)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def head_files(arch, kind):
    folder = os.path.join(HERE, "models", "heads-" + arch)
    index = read(os.path.join(folder, kind + ".index.json"))
    files = {"config.json": read(os.path.join(folder, kind + ".config.json")), "model.safetensors.index.json": index}
    for name in ["tokenizer.json", "tokenizer_config.json"] + sorted(set(json.loads(index)["weight_map"].values())):
        files[name] = read(os.path.join(folder, name))
    return files


def folder_files(folder):
    paths = [p for p in glob.glob(folder + "/**", recursive=True) if os.path.isfile(p)]
    return {os.path.relpath(p, folder): read(p) for p in paths if not p.endswith((".md", ".py", ".bin"))}


def check(name, what, got, want):
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    worst = np.abs(got - want).max() if got.shape == want.shape and got.size else np.inf
    if not worst <= TOLERANCE:
        failures.append(name)
        print(f"{name}: {what} differs by {worst:.3g} {got.shape} {want.shape}")


def load(cls, folder, name):
    model, info = cls.from_pretrained(folder, output_loading_info=True, torch_dtype=torch.float32)
    if cls.__name__.endswith("Model") and "LMHead" not in cls.__name__:     # a pooler that no head uses
        info["missing_keys"] = {k for k in info["missing_keys"] if not k.startswith("pooler.")}
    wrong = {k: v for k, v in info.items() if v}
    if wrong:
        failures.append(name)
        print(f"{name}: {wrong}")
    return model.eval()


def compare_head(server, name, folder):
    """By the class in config.json."""
    config = transformers.AutoConfig.from_pretrained(folder)
    cls = getattr(transformers, config.architectures[0])
    model = load(cls, folder, name)
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    heads = server.rows("SELECT head, task FROM distil_heads WHERE model = %s", name)
    with torch.no_grad():
        for text in TEXTS:
            enc = tok(text, return_tensors="pt", truncation=True, max_length=64)
            out = model(**enc, output_hidden_states=True) if "MultipleChoice" not in cls.__name__ else None
            if out is not None:
                check(name, "hidden states", server.value("SELECT distil_hidden_states(%s, %s)", text, name),
                      out.hidden_states[-1][0])
            for head, task in heads:
                ours = server.value("SELECT distil_logits(%s, %s)", text, head)
                if task == "question-answering":
                    check(head, "logits", ours, torch.stack([out.start_logits[0], out.end_logits[0]], 1))
                elif task != "multiple-choice":
                    check(head, "logits", ours, out.logits[0])
    for head, task in heads:
        compare_task(server, name, head, task, model, tok)


def compare_task(server, name, head, task, model, tok):
    """Through the pipeline, or what stands for one."""
    with torch.no_grad():
        if task == "fill-mask":
            text = f"the {tok.mask_token} sat on the mat ."
            want = transformers.pipeline(task, model=model, tokenizer=tok)(text, top_k=8)
            got = server.rows("SELECT token, score FROM distil_fill_mask(%s, %s, 8)", text, name)
            check(head, "scores", [s for _, s in got], [w["score"] for w in want])
            if [t for t, _ in got] != [w["token_str"].strip() for w in want]:
                failures.append(head)
                print(head, got, want)
        elif task == "text-generation":
            enc = tok(TEXTS[0], return_tensors="pt")
            want = model.generate(**enc, max_new_tokens=12, do_sample=False, pad_token_id=0)[0, enc["input_ids"].shape[1]:]
            got = server.value("SELECT distil_generate(%s, %s, 12)", TEXTS[0], name)
            if got != tok.decode(want, skip_special_tokens=True):
                failures.append(head)
                print(head, repr(got), tok.decode(want))
        elif task == "text-classification" and head.endswith("/classify") and model.config.problem_type != "regression":
            want = transformers.pipeline(task, model=model, tokenizer=tok)(TEXTS[0], top_k=None)
            got = dict(server.rows("SELECT label, score FROM distil_classify_scores(%s, %s)", TEXTS[0], head))
            check(head, "scores", [got[w["label"]] for w in want], [w["score"] for w in want])
        elif task == "token-classification":
            want = transformers.pipeline(task, model=model, tokenizer=tok, aggregation_strategy="simple")(TEXTS[1])
            got = server.rows("SELECT entity, score, start_pos, end_pos FROM distil_entities(%s, %s)", TEXTS[1], head)
            check(head, "scores", [g[1] for g in got], [w["score"] for w in want])
            if [(g[0], g[2], g[3]) for g in got] != [(w["entity_group"], w["start"], w["end"]) for w in want]:
                failures.append(head)
                print(head, got, want)
        elif task == "multiple-choice":
            enc = [tok(TEXTS[0], c, return_tensors="pt") for c in TEXTS]
            scores = torch.cat([model(**{k: v.unsqueeze(1) for k, v in e.items()}).logits for e in enc], 1)
            got = dict(server.rows("SELECT choice, score FROM distil_choose(%s, %s, %s)", TEXTS[0], TEXTS, head))
            check(head, "scores", [got[t] for t in TEXTS], torch.softmax(scores, 1)[0])


def compare_rerank(server, name, folder):
    ours = [server.value("SELECT distil_rerank(%s, %s, %s)", TEXTS[0], t, name + "/rerank") for t in TEXTS]
    check(name, "ranks", ours, CrossEncoder(folder, device="cpu").predict([(TEXTS[0], t) for t in TEXTS]))


def compare_sentences(server, name, folder):
    ours = [server.value("SELECT distil_embed(%s, %s)", t, name) for t in TEXTS]
    check(name, "embeddings", ours, SentenceTransformer(folder, device="cpu").encode(TEXTS))


def main():
    server = Server(sys.argv[1])
    server.run("SET client_min_messages = error")
    server.run("SET distil.precision = 'float32'")       # what the libraries compute in
    server.run("CREATE EXTENSION IF NOT EXISTS distil")
    models = {}
    for arch in ARCHITECTURES:
        kinds = ["lm", "sequence", "token", "question"] + (["choice"] if arch != "gpt2" else [])
        for kind in kinds + (["multi", "one", "regression"] if arch == "bert" else []):
            models[f"{arch}-{kind}"] = compare_head
            server.import_files(f"{arch}-{kind}", head_files(arch, kind))
    for name in ["bert-mlm", "distilbert-mlm", "bert-bf16", "bert-f16-sharded"]:
        models[name] = compare_head
        server.import_files(name, folder_files(os.path.join(HERE, "models", name)))
    models["bert-one"] = compare_rerank
    sentence = [os.path.join(HERE, "models", "bert-sentence")] + sys.argv[2:3]
    for i, folder in enumerate(sentence):
        models[f"sentence{i}"] = compare_sentences
        server.import_files(f"sentence{i}", folder_files(folder))
    corpus = "SELECT x FROM unnest(ARRAY['" + "', '".join(" ".join(TEXTS[k:] + TEXTS) for k in range(3)) + "']) x"
    settings = json.dumps({"max_steps": 2, "batch_size": 2, "gradient_accumulation_steps": 1, "threads": 1})
    for teacher, method in [(f"{a}-lm", "triple") for a in ARCHITECTURES] + \
            [(f"{a}-lm", "embedding") for a in ARCHITECTURES] + [("sentence0", "embedding")]:
        student = f"{method}-{teacher}"
        server.run("CALL distil_train(%s, %s, %s, method => %s, options => %s::jsonb)", teacher, corpus, student, method, settings)
        server.run("CALL distil_wait(distil_last_job())")
        models[student] = compare_sentences if teacher == "sentence0" else compare_head
    for teacher in ["bert-sequence", "gpt2-lm", "mpnet-token", "albert-lm"]:
        models["created-" + teacher] = compare_head
        server.run("SELECT distil_create(%s, distil_config(%s), %s)", "created-" + teacher, teacher, teacher)
    for name in ["albert-token", "bert-sequence", "distilbert-question", "gpt2-lm", "mpnet-lm", "sentence0"]:
        for dtype in ["int8", "bfloat16"]:
            models[f"{name}-{dtype}"] = models[name]
            server.run("SELECT distil_quantize(%s, %s, %s)", name, f"{name}-{dtype}", dtype)
    for name, compare in models.items():
        with tempfile.TemporaryDirectory() as folder:
            server.export(name, folder)
            try:
                compare(server, name, folder)
            except Exception as error:          # one broken folder must not hide the others
                failures.append(name)
                print(f"{name}: {type(error).__name__}: {error}")
    print(f"{len(models)} models, {len(set(failures))} failed: {sorted(set(failures))}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
