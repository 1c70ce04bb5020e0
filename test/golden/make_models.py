#!/usr/bin/env python3
"""Tiny model folders (models/NAME) and what the real libraries compute with them (NAME.goldens.safetensors).

    python make_models.py          needs torch, transformers, sentence-transformers, tokenizers, safetensors

Everything is seeded: the same versions give the same bytes.  The results are computed in
float64 and stored as float32, so a test's tolerance is the rounding of its own float32 sums.
See models/README.md for the list of folders and tensors.
"""
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers import models as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (BertConfig, BertForMaskedLM, BertModel, BertTokenizerFast,
                          DistilBertConfig, DistilBertForMaskedLM, DistilBertTokenizerFast)

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "models")

TEXTS = [
    "the cat sat on the mat .",
    "a database stores rows and columns; queries read them",
    "hello",
    "A QUICK brown fox, 42 lazy dogs & the river?",
    "training a small model to do the work of a large one takes time and data",
    "",
    "the [MASK] sat on the river .",
]
PAIR = ("where is the cat", "the cat is on the mat")

WORDS = """the a an and or of to in on at is are was be with for from by as it this that not no yes he she we you they
i one two three cat dog fox mat sat river lazy quick brown hello world database data rows row column columns query queries
read reads write store stores table tables index model models small large big train training work works time take takes
do does did can will would where when who what why how many much more less new old good bad first last man woman day
night water fire house home city country war king paper book story word words text language number numbers plan
fast slow run walk go come see hear red green blue black white high low long short open close play game team
market price money bank state law people life hand eye head heart light dark north south east west""".split()
PIECES = "##s ##ed ##ing ##er ##est ##ly ##tion ##ment ##ness ##able ##al ##ic ##ous ##y ##e ##es".split()


def vocabulary():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    chars = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    tokens += chars + ["##" + c for c in chars if c.isalnum()]
    tokens += PIECES + WORDS
    return list(dict.fromkeys(tokens))


VOCABULARY = vocabulary()


def tokenizer(cls):
    vocab = {t: i for i, t in enumerate(VOCABULARY)}
    tok = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tok.add_special_tokens(VOCABULARY[:5])
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tok.decoder = decoders.WordPiece(prefix="##")
    return cls(tokenizer_object=tok, model_max_length=64, unk_token="[UNK]", sep_token="[SEP]",
               pad_token="[PAD]", cls_token="[CLS]", mask_token="[MASK]")


def randomise(model, seed):
    """Weights of the size trained models have: logits and states then differ well between tokens."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            norm = "norm" in name.lower()
            if norm and name.endswith("weight"):
                p.copy_(1 + 0.1 * torch.randn(p.shape, generator=g))
            elif name.endswith("bias"):
                p.copy_(0.05 * torch.randn(p.shape, generator=g))
            else:
                p.copy_(0.15 * torch.randn(p.shape, generator=g))
    return model.eval()


def folder(name):
    path = os.path.join(OUT, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def write_vocab(path):
    with open(os.path.join(path, "vocab.txt"), "w", encoding="utf8") as f:
        f.write("".join(t + "\n" for t in VOCABULARY))


def bert_config(**more):
    return BertConfig(vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                      intermediate_size=64, max_position_embeddings=64, type_vocab_size=2, **more)


def goldens(name, model, tok, sentence=None, extra=None):
    """ids and types as the tokenizer gives them; hidden: last hidden state; logits: masked-LM head."""
    model = model.double()
    out = dict(extra or {})
    inputs = [(f"text{i}", tok(t, return_tensors="pt")) for i, t in enumerate(TEXTS)]
    inputs.append(("pair", tok(*PAIR, return_tensors="pt")))
    with torch.no_grad():
        for key, enc in inputs:
            out[key + ".ids"] = enc["input_ids"][0].int()
            if "token_type_ids" in enc:
                out[key + ".types"] = enc["token_type_ids"][0].int()
            result = model(**enc, output_hidden_states=True)
            hidden = getattr(result, "hidden_states", None)
            out[key + ".hidden"] = hidden[-1][0]
            if hasattr(result, "logits"):
                out[key + ".logits"] = result.logits[0]
    if sentence is not None:
        sentence = sentence.double()
        for prompt in [None, "query", "passage"]:
            e = sentence.encode(TEXTS, prompt_name=prompt, convert_to_tensor=True)
            out["embedding" if prompt is None else "embedding." + prompt] = e
    out = {k: (v.to(torch.float32) if v.is_floating_point() else v).contiguous() for k, v in out.items()}
    save_file(out, os.path.join(HERE, name + ".goldens.safetensors"))


def make_bert_mlm():
    path = folder("bert-mlm")
    torch.manual_seed(1)
    model = randomise(BertForMaskedLM(bert_config()), 1)
    tok = tokenizer(BertTokenizerFast)
    model.save_pretrained(path)
    tok.save_pretrained(path)
    # the same weights as published long ago: gamma/beta, position_ids, the tied decoder stored, legacy tokenizer
    old = folder("bert-old")
    tensors = load_file(os.path.join(path, "model.safetensors"))
    renamed = {}
    for key, value in tensors.items():
        if key.endswith("LayerNorm.weight"):
            key = key[:-len("weight")] + "gamma"
        elif key.endswith("LayerNorm.bias"):
            key = key[:-len("bias")] + "beta"
        renamed[key] = value
    renamed["bert.embeddings.position_ids"] = torch.arange(64).reshape(1, 64)
    renamed["cls.predictions.decoder.weight"] = renamed["bert.embeddings.word_embeddings.weight"].clone()
    save_file(renamed, os.path.join(old, "model.safetensors"), metadata={"format": "pt"})
    config = json.load(open(os.path.join(path, "config.json")))
    for key in ["dtype", "transformers_version", "tie_word_embeddings", "is_decoder", "add_cross_attention"]:
        config.pop(key, None)
    json.dump(config, open(os.path.join(old, "config.json"), "w"), indent=1)
    json.dump({"do_lower_case": True, "model_max_length": 64}, open(os.path.join(old, "tokenizer_config.json"), "w"))
    write_vocab(old)
    # float16 in three shards
    half = folder("bert-f16-sharded")
    BertForMaskedLM.from_pretrained(path).half().save_pretrained(half, max_shard_size="40KB")
    tok.save_pretrained(half)
    goldens("bert-mlm", model, tok)


def make_distilbert_mlm():
    path = folder("distilbert-mlm")
    torch.manual_seed(2)
    config = DistilBertConfig(vocab_size=len(VOCABULARY), dim=32, n_layers=3, n_heads=4, hidden_dim=64,
                              max_position_embeddings=64)
    model = randomise(DistilBertForMaskedLM(config), 2)
    tok = tokenizer(DistilBertTokenizerFast)
    model.save_pretrained(path)
    tok.save_pretrained(path)
    goldens("distilbert-mlm", model, tok)


POOLINGS = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


def make_bert_sentence():
    path = folder("bert-sentence")
    base = folder("base")
    torch.manual_seed(3)
    model = randomise(BertModel(bert_config(), add_pooling_layer=False), 3)
    tok = tokenizer(BertTokenizerFast)
    model.save_pretrained(base)
    tok.save_pretrained(base)
    # bfloat16, bare names, no head
    bf16 = folder("bert-bf16")
    BertModel.from_pretrained(base, add_pooling_layer=False).bfloat16().save_pretrained(bf16)
    tok.save_pretrained(bf16)
    transformer = st.Transformer(base)
    dense = st.Dense(32, 24, activation_function=torch.nn.Tanh())
    randomise(dense, 4)
    prompts = {"query": "query: ", "passage": "the passage "}
    sentence = SentenceTransformer(modules=[transformer, st.Pooling(32, "mean"), dense, st.Normalize()],
                                   prompts=prompts, device="cpu")
    sentence.save(path, create_model_card=False)
    extra = {}
    for mode in POOLINGS + [("mean", "max")]:
        one = SentenceTransformer(modules=[transformer, st.Pooling(32, mode)], device="cpu").double()
        key = mode if isinstance(mode, str) else "+".join(mode)
        extra["pooling." + key] = one.encode(TEXTS, convert_to_tensor=True)
    one = SentenceTransformer(modules=[transformer, st.Pooling(32, "mean", include_prompt=False)],
                              prompts=prompts, device="cpu").double()
    extra["pooling.mean.no_prompt.query"] = one.encode(TEXTS, prompt_name="query", convert_to_tensor=True)
    goldens("bert-sentence", model, tok, sentence, extra)
    shutil.rmtree(base)


def main():
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    make_bert_mlm()
    make_distilbert_mlm()
    make_bert_sentence()
    with open(os.path.join(OUT, "texts.json"), "w", encoding="utf8") as f:
        json.dump({"texts": TEXTS, "pair": PAIR}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
