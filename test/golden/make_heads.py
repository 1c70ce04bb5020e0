#!/usr/bin/env python3
"""One tiny folder per architecture (models/heads-ARCH) with every head, and what transformers computes (heads-ARCH.goldens.safetensors).

    python make_heads.py [SEED [ARCH...]]       needs torch, transformers, sentence-transformers, tokenizers, safetensors

The heads of an architecture share one backbone: KIND.index.json names the files that make up the model KIND, KIND.config.json
is its configuration.  Results are computed in float64 and stored as float32.
"""
import json
import os
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, pipeline

from make_models import HERE, OUT, VOCABULARY, folder, randomise

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 11
TEXTS = [
    "the cat sat on the mat .",
    "A QUICK brown fox, 42 lazy dogs & the river?",
    "training a small model to do the work of a large one takes time and data; the king and the queries of a city come "
    "from the east, where the red fox runs fast in the dark night and the dogs see it",
]
PAIR = ("where is the cat", "the cat is on the mat")
CONTEXT = ("the cat sat on the mat. the quick brown fox sees a large house in the city, and the king of the country "
           "reads an old book of law by the fire. a good model takes time and data; the bank in the west has money, "
           "and the people play a game with the market price. the white dog comes home from the river at night.")
QUESTION = "where is the dog"
CHOICES = ["the cat is on the mat", "a fox", "the king reads a book"]
PLAIN = [t for t in VOCABULARY if not t.startswith("[")]
NER = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
LABELS = ["bad", "plain", "good"]


def byte_level(special, words):
    """Byte-level BPE: the texts' words are tokens, with a blank before them or without; others are cut."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=640, special_tokens=special, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator([" ".join(TEXTS + [CONTEXT, QUESTION] + CHOICES + list(PAIR))] * 9 + ["the a where A " + " ".join(words)], trainer)
    return tok


def unigram(special):
    """SentencePiece's way as ALBERT has it: the texts' words with a blank before them, pieces of words, single characters."""
    words = [t for t in PLAIN if not t.startswith("##")]
    pieces = ["\u2581" + t for t in words] + ["\u2581"] + [t.removeprefix("##") for t in PLAIN if t.startswith("##") or len(t) == 1]
    pieces = list(dict.fromkeys(pieces))
    tok = Tokenizer(models.Unigram([(t, 0.0) for t in special] + [(t, -4 - i / 50) for i, t in enumerate(pieces)], unk_id=1))
    tok.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")])
    tok.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    tok.add_special_tokens(special[:4])
    tok.add_special_tokens([AddedToken("[MASK]", lstrip=True, special=True)])
    return tok


def fast_tokenizer(kind):
    """WordPiece for BERT and MPNet, byte-level BPE for RoBERTa and GPT-2, Unigram for ALBERT, with each family's special tokens and template."""
    if kind == "albert":
        special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
        cls, sep, mask, pad, unk = "[CLS]", "[SEP]", "[MASK]", "<pad>", "<unk>"
    elif kind == "bert":
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        cls, sep, mask, pad, unk = "[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]"
    elif kind in ("roberta", "mpnet"):
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        cls, sep, mask, pad, unk = "<s>", "</s>", "<mask>", "<pad>", "<unk>"
    else:
        special = ["<|endoftext|>"]
        cls = sep = mask = pad = None
        unk = "<|endoftext|>"
    vocab = {t: i for i, t in enumerate(special + PLAIN)}
    if kind in ("roberta", "gpt2"):
        tok = byte_level(special, [t for t in PLAIN if not t.startswith("##")])
        if mask:
            tok.add_special_tokens([AddedToken(mask, lstrip=True, special=True)])
    elif kind == "albert":
        tok = unigram(special)
    else:
        tok = Tokenizer(models.WordPiece(vocab, unk_token=unk, max_input_chars_per_word=100))
        tok.add_special_tokens(special)
        tok.normalizer = normalizers.BertNormalizer(lowercase=True)
        tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tok.decoder = decoders.WordPiece(prefix="##")
    if kind in ("bert", "albert"):
        tok.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", vocab[cls]), ("[SEP]", vocab[sep])])
    elif kind == "roberta":
        tok.post_processor = processors.RobertaProcessing(("</s>", vocab[sep]), ("<s>", vocab[cls]), trim_offsets=True, add_prefix_space=False)
    elif kind == "mpnet":
        tok.post_processor = processors.TemplateProcessing(
            single="<s>:0 $A:0 </s>:0", pair="<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0",
            special_tokens=[("<s>", vocab[cls]), ("</s>", vocab[sep])])
    else:
        tok.post_processor = processors.ByteLevel(trim_offsets=False)
    more = dict(cls_token=cls, sep_token=sep, mask_token=mask, pad_token=pad) if cls else \
        dict(bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    return PreTrainedTokenizerFast(tokenizer_object=tok, model_max_length=64, unk_token=unk,
                                   model_input_names=["input_ids", "token_type_ids", "attention_mask"]
                                   if kind in ("bert", "albert") else ["input_ids", "attention_mask"], **more)


def configuration(arch, vocabulary):
    common = dict(vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    if arch == "bert":
        return transformers.BertConfig(max_position_embeddings=64, pad_token_id=0, **common)
    if arch == "roberta":
        return transformers.RobertaConfig(max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
                                          bos_token_id=0, eos_token_id=2, **common)
    if arch == "mpnet":
        return transformers.MPNetConfig(max_position_embeddings=66, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0,
                                        eos_token_id=2, **common)
    if arch == "electra":
        return transformers.ElectraConfig(max_position_embeddings=64, pad_token_id=0, embedding_size=32, **common)
    if arch == "electra-small":
        return transformers.ElectraConfig(max_position_embeddings=64, pad_token_id=0, embedding_size=16, **common)
    if arch == "albert":
        return transformers.AlbertConfig(max_position_embeddings=64, pad_token_id=0, embedding_size=16, **common)
    if arch == "distilbert":
        return transformers.DistilBertConfig(vocab_size=vocabulary, dim=32, n_layers=2, n_heads=4, hidden_dim=48,
                                             max_position_embeddings=64, pad_token_id=0)
    return transformers.GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=4, n_inner=48, n_positions=64,
                                   bos_token_id=0, eos_token_id=0)


STEMS = {"albert": "Albert", "bert": "Bert", "distilbert": "DistilBert", "electra": "Electra", "electra-small": "Electra", "roberta": "Roberta", "mpnet": "MPNet", "gpt2": "GPT2"}
KINDS = {
    "lm": ("ForMaskedLM", {}),
    "sequence": ("ForSequenceClassification", dict(labels=LABELS)),
    "token": ("ForTokenClassification", dict(labels=NER)),
    "question": ("ForQuestionAnswering", {}),
    "choice": ("ForMultipleChoice", {}),
}
VARIANTS = {                    # bert only: configurations over the same tensors
    "multi": ("sequence", dict(problem_type="multi_label_classification")),
    "one": ("ForSequenceClassification", dict(labels=["score"])),
    "regression": ("one", dict(problem_type="regression")),
}


def with_labels(config, labels):
    config.id2label = dict(enumerate(labels))
    config.label2id = {t: i for i, t in enumerate(labels)}


def build(arch, kind, tok, base):
    suffix, options = KINDS[kind] if kind in KINDS else VARIANTS[kind]
    config = configuration(arch, len(tok))
    if "labels" in options:
        with_labels(config, options["labels"])
    if arch == "gpt2" and kind == "sequence":
        config.pad_token_id = None
    name = "GPT2LMHeadModel" if arch == "gpt2" and kind == "lm" else STEMS[arch] + suffix
    model = getattr(transformers, name)(config)
    randomise(model, SEED + sum(map(ord, arch + kind)))
    if base is not None:
        missing = model.load_state_dict(base, strict=False)
        assert not missing.unexpected_keys, missing.unexpected_keys
    return model.eval()


def encode(tok, *texts):
    return tok(*texts, return_tensors="pt", truncation=True, max_length=64)


def save(tensors, path):
    save_file(tensors, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)               # for the server


def save_kind(path, kind, model, backbone):
    state = {k: v for k, v in model.state_dict().items()}
    tied = [k for k in state if k in ("lm_head.weight", "lm_head.decoder.weight", "cls.predictions.decoder.weight", "generator_lm_head.weight",
                                     "vocab_projector.weight", "predictions.decoder.weight", "predictions.decoder.bias", "lm_head.decoder.bias", "cls.predictions.decoder.bias")]
    own = {k: v.contiguous() for k, v in state.items() if k not in backbone and k not in tied}
    if own:
        save(own, os.path.join(path, kind + ".safetensors"))
    weight_map = {k: "backbone.safetensors" for k in backbone}
    weight_map.update({k: kind + ".safetensors" for k in own})
    write_json(os.path.join(path, kind + ".index.json"), {"metadata": {}, "weight_map": weight_map})
    config = json.loads(model.config.to_json_string())
    config["architectures"] = [type(model).__name__]
    config.pop("transformers_version", None)
    write_json(os.path.join(path, kind + ".config.json"), config)


def save_old(path, model, arch):
    """The language model as old files have it: no prefix, only the output layer of the tied pair, buffers among the weights."""
    state = model.state_dict()
    prefix = model.base_model_prefix + "."
    old = {k.removeprefix(prefix): v.clone().contiguous() for k, v in state.items()}
    if arch == "gpt2":
        old["lm_head.weight"] = old.pop("wte.weight")
        for i in range(model.config.n_layer):
            old[f"h.{i}.attn.bias"] = torch.tril(torch.ones(8, 8)).reshape(1, 1, 8, 8)
            old[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    else:
        old["lm_head.decoder.weight"] = old.pop("embeddings.word_embeddings.weight")
        old["lm_head.decoder.bias"] = old.pop("lm_head.bias")
        old["embeddings.position_ids"] = torch.arange(66).reshape(1, 66)
        for name in [k for k in old if "LayerNorm" in k]:
            old[name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")] = old.pop(name)
    save(old, os.path.join(path, "old.safetensors"))
    write_json(os.path.join(path, "old.index.json"), {"metadata": {}, "weight_map": dict.fromkeys(old, "old.safetensors")})
    shutil.copy(os.path.join(path, "lm.config.json"), os.path.join(path, "old.config.json"))


def write_json(path, value):
    with open(path, "w", encoding="utf8") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def logits_of(out, model, kind, tok):
    for i, text in enumerate(TEXTS):
        enc = encode(tok, text)
        if kind == "choice":
            out[f"{kind}.text{i}"] = model(**{k: v.unsqueeze(1) for k, v in enc.items()}).logits
            continue
        result = model(**enc, output_hidden_states=True)
        if kind == "lm":
            out[f"text{i}.hidden"] = result.hidden_states[-1][0]
            out[f"text{i}.ids"] = enc["input_ids"][0].int()
        if kind == "question":
            out[f"{kind}.text{i}"] = torch.stack([result.start_logits[0], result.end_logits[0]], 1)
        elif kind != "lm" or i == 0:
            out[f"{kind}.text{i}"] = result.logits[0] if kind in ("lm", "token") else result.logits
    enc = encode(tok, *PAIR)
    if kind in ("lm", "token"):
        out[f"{kind}.pair"] = model(**enc).logits[0]
    elif kind == "sequence":
        out[f"{kind}.pair"] = model(**enc).logits


def untyped(path, model):
    """Of a pair by a tokenizer that says nothing of model_input_names: its class passes no segment ids."""
    other = os.path.join(path, "untyped")
    os.makedirs(other)
    shutil.copy(os.path.join(path, "tokenizer.json"), other)
    config = json.load(open(os.path.join(path, "tokenizer_config.json")))
    config.pop("model_input_names")
    write_json(os.path.join(other, "tokenizer_config.json"), config)
    tok = transformers.AutoTokenizer.from_pretrained(other)
    shutil.rmtree(other)
    return model(**encode(tok, *PAIR)).logits


def losses_of(out, model, kind, tok, arch):
    enc = encode(tok, TEXTS[0])
    n = enc["input_ids"].shape[1]
    if kind == "lm" and arch == "gpt2":
        out["loss.lm"] = model(**enc, labels=enc["input_ids"]).loss
    elif kind == "lm":
        masked = encode(tok, TEXTS[0].replace("cat", tok.mask_token))
        labels = enc["input_ids"]
        out["loss.lm"] = model(**masked, labels=labels).loss
        only = torch.where(masked["input_ids"] == tok.mask_token_id, labels, -100)
        out["loss.lm.masked_only"] = model(**masked, labels=only).loss
    elif kind == "sequence":
        out["loss.sequence"] = model(**enc, labels=torch.tensor([2])).loss
    elif kind == "token":
        words, tags = TEXTS[0].split(), [0, 1, 2, 0, 3, 4, 0]
        special = n - len(words)
        labels = torch.tensor([([-100] if special else []) + tags + ([-100] if special else [])])
        out["loss.token"] = model(**enc, labels=labels).loss
    elif kind == "question":
        both = encode(tok, *PAIR)
        out["loss.question"] = model(**both, start_positions=torch.tensor([3]), end_positions=torch.tensor([5])).loss
    elif kind == "choice":
        enc = [encode(tok, PAIR[0], c) for c in CHOICES]
        scores = torch.cat([model(**{k: v.unsqueeze(1) for k, v in e.items()}).logits for e in enc], 1)
        out["choose.scores"] = torch.softmax(scores, 1)[0]
        out["loss.choice"] = torch.nn.functional.cross_entropy(scores, torch.tensor([2]))


def answers(model, tok, top_k=5):
    """The rule of distil_answer over the logits of AutoModelForQuestionAnswering: see the manual."""
    size = 64
    enc = tok(QUESTION, CONTEXT, truncation="only_second", max_length=size, stride=min(size // 2, 128),
              return_overflowing_tokens=True, return_offsets_mapping=True)
    best = {}
    for w, ids in enumerate(enc["input_ids"]):
        sequence = enc.sequence_ids(w)
        inputs = {"input_ids": torch.tensor([ids])}
        if "token_type_ids" in enc:
            inputs["token_type_ids"] = torch.tensor([enc["token_type_ids"][w]])
        result = model(**inputs)
        allowed = np.array([s == 1 for s in sequence])
        context = allowed.copy()
        if tok.cls_token_id is not None:
            allowed |= np.array(ids) == tok.cls_token_id
        start, end = (np.where(allowed, x[0].numpy(), -np.inf) for x in (result.start_logits, result.end_logits))
        start, end = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in (start, end))
        for i in np.nonzero(context)[0]:
            for j in range(i, min(i + 30, len(ids))):
                if context[j]:
                    key = (enc["offset_mapping"][w][i][0], enc["offset_mapping"][w][j][1])
                    best[key] = max(best.get(key, 0), start[i] * end[j])
    ordered = sorted(best.items(), key=lambda x: -x[1])[:top_k]
    return [{"start": k[0], "end": k[1], "score": float(v)} for k, v in ordered]


def entities(path, model, tok):
    model = model.float()
    text = "The king of the EAST country, a quick foxly lawness; databasely north-west people in the city"
    out = {"text": text}
    for strategy in ["none", "simple", "first", "average", "max"]:
        run = pipeline("token-classification", model=model, tokenizer=tok, aggregation_strategy=strategy, device="cpu")
        out[strategy] = [{"entity": e.get("entity_group", e.get("entity")), "score": float(e["score"]), "start": e["start"],
                          "end": e["end"]} for e in run(text)]
    return out


def generated(model, tok, json_out):
    """Greedy continuations by transformers, with and without an end."""
    model = model.float()
    cases = []
    for prompt in ["the cat sat on", "a quick brown fox"]:
        ids = tok(prompt, return_tensors="pt")["input_ids"]
        new = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, pad_token_id=0)
        cases.append({"prompt": prompt, "ids": new[0, ids.shape[1]:].tolist()})
    json_out["generate"] = cases
    model.double()
    for i, text in enumerate(TEXTS):
        enc = tok(text, return_tensors="pt")
        json_out.setdefault("perplexity", []).append(float(torch.exp(model(**enc, labels=enc["input_ids"]).loss)))


CHANGES = {                     # one field each; the same weights give other hidden states
    "albert": [("hidden_act", "gelu"), ("layer_norm_eps", 0.01), ("num_attention_heads", 2), ("num_hidden_layers", 3)],
    "bert": [("hidden_act", "relu"), ("hidden_act", "quick_gelu"), ("layer_norm_eps", 0.01), ("num_attention_heads", 2)] +
            [("hidden_act", name) for name in ["gelu_python", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh",
                                               "silu", "swish", "tanh", "sigmoid"]],
    "distilbert": [("activation", "relu"), ("n_heads", 2), ("sinusoidal_pos_embds", True)],
    "electra": [("layer_norm_eps", 0.01), ("num_attention_heads", 2)],
    "electra-small": [("layer_norm_eps", 0.01)],
    "roberta": [("pad_token_id", 0), ("hidden_act", "gelu_new"), ("layer_norm_eps", 0.01), ("num_attention_heads", 2)],
    "mpnet": [("pad_token_id", 0), ("hidden_act", "silu"), ("layer_norm_eps", 0.01)],
    "gpt2": [("scale_attn_weights", False), ("scale_attn_by_inverse_layer_idx", True), ("reorder_and_upcast_attn", True),
             ("activation_function", "gelu"), ("layer_norm_epsilon", 0.01), ("n_head", 2)],
}


def changed(out, facts, arch, model, tok, path):
    """Hidden states with one field of the configuration changed."""
    text = open(os.path.join(path, "lm.config.json")).read()
    facts["changes"] = []
    for i, (field, value) in enumerate(CHANGES[arch]):
        config = json.loads(text)
        line = f'"{field}": {json.dumps(config[field])}'
        assert text.count(line) == 1, line
        facts["changes"].append({"from": line, "to": f'"{field}": {json.dumps(value)}'})
        config[field] = value
        other = type(model)(type(model.config)(**config, attn_implementation="eager"))
        other.load_state_dict(model.state_dict())
        # that path works in float32 only
        other = other.eval().float() if field == "reorder_and_upcast_attn" else other.eval().double()
        out[f"change{i}.hidden"] = other(**encode(tok, TEXTS[0]), output_hidden_states=True).hidden_states[-1][0]


def make(arch):
    torch.manual_seed(SEED)
    path = folder("heads-" + arch)
    tok = fast_tokenizer(arch if arch in ("albert", "roberta", "mpnet", "gpt2") else "bert")
    tok.save_pretrained(path)
    out, facts, base, backbone = {}, {}, None, None
    kinds = [k for k in KINDS if not (arch == "gpt2" and k == "choice")]
    for kind in kinds + (["one"] if arch == "bert" else []):
        model = build(arch, kind, tok, base)
        prefix = model.base_model_prefix + "."
        if base is None:
            base = {k: v.clone() for k, v in model.state_dict().items() if k.startswith(prefix) and ".pooler." not in k}
            backbone = {k: v.contiguous() for k, v in base.items()}
            save(backbone, os.path.join(path, "backbone.safetensors"))
        save_kind(path, kind, model, backbone)
        if kind == "lm" and arch in ("gpt2", "roberta"):
            save_old(path, model, arch)
        # what the files give, not what is in memory: a folder made of them, loaded by the library
        check = os.path.join(path, "check")
        os.makedirs(check)
        for name in os.listdir(path):
            if name.endswith(".safetensors") or name.startswith("tokenizer"):
                shutil.copy(os.path.join(path, name), check)
        shutil.copy(os.path.join(path, kind + ".config.json"), os.path.join(check, "config.json"))
        shutil.copy(os.path.join(path, kind + ".index.json"), os.path.join(check, "model.safetensors.index.json"))
        model = type(model).from_pretrained(check, attn_implementation="eager").eval().double()
        shutil.rmtree(check)
        with torch.no_grad():
            if kind in KINDS:
                logits_of(out, model, kind, tok)
                losses_of(out, model, kind, tok, arch)
                if kind == "sequence" and arch in ("albert", "bert"):
                    out["sequence.untyped"] = untyped(path, model)
            else:
                out["rerank"] = torch.sigmoid(model(**encode(tok, *PAIR)).logits[0])
                out["one"] = model(**encode(tok, *PAIR)).logits[0]
            if kind == "question":
                facts["answers"] = answers(model, tok)
                facts["question"], facts["context"] = QUESTION, CONTEXT
            if kind == "token":
                facts["entities"] = entities(path, model, tok)
            if kind == "lm":
                changed(out, facts, arch, model, tok, path)
            if kind == "lm" and arch == "distilbert":
                model.config.sinusoidal_pos_embds = True
                out["sinusoids"] = transformers.DistilBertModel(model.config).embeddings.position_embeddings.weight.clone()
            if kind == "lm" and arch == "gpt2":
                generated(model, tok, facts)
    if arch == "bert":
        for variant in ("multi", "regression"):
            of, change = VARIANTS[variant]
            config = json.load(open(os.path.join(path, of + ".config.json")))
            config.update(change)
            write_json(os.path.join(path, variant + ".config.json"), config)
            shutil.copy(os.path.join(path, of + ".index.json"), os.path.join(path, variant + ".index.json"))
        values = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
        out["loss.multi"] = torch.nn.functional.binary_cross_entropy_with_logits(out["sequence.text0"], values)
    write_json(os.path.join(HERE, f"heads-{arch}.json"), facts)
    out = {k: (v.to(torch.float32) if v.is_floating_point() else v).contiguous().reshape(v.shape if v.dim() else (1,))
           for k, v in out.items()}
    save(out, os.path.join(HERE, f"heads-{arch}.goldens.safetensors"))


def main():
    torch.set_num_threads(1)
    for arch in sys.argv[2:] or STEMS:
        make(arch)


if __name__ == "__main__":
    main()
