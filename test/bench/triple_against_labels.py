#!/usr/bin/env python3
"""Does the triple loss help?  Students with a teacher against the same students without, at equal steps.

    triple_against_labels.py TRAIN_FOLDER WORK [SEEDS]      needs torch, transformers, tokenizers

TRAIN_FOLDER: the built test/tools/train_folder.c. The texts are sentences of a small invented language with a
known grammar (class Language), so teacher, students and evaluation each get sentences of their own, of which
none occurs twice. A teacher (4 layers of 64) is trained from random weights by masked words alone; it must
have learnt something for the comparison to mean anything, hence its loss is printed beside the unigram
entropy, which is what knowing only the words' frequencies would give. Then for each seed two 2-layer students
start from the same teacher layers and see the same batches with the same masks, steps and learning rate: one
with the default triple loss (5/2/1 at temperature 2), one with its masked-word part only. Prints the
masked-word loss of each on sentences that none has seen (same masks for all), and of an untrained student.
Exit status 1 unless the teacher is below half of the unigram entropy and the triple loss wins for every seed.
"""
import collections
import itertools
import json
import math
import pathlib
import random
import subprocess
import sys

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForMaskedLM, DistilBertForMaskedLM, PreTrainedTokenizerFast

TOOL, WORK = sys.argv[1], pathlib.Path(sys.argv[2])
SEEDS = range(1, 1 + (int(sys.argv[3]) if len(sys.argv) > 3 else 3))
TEACHER_STEPS, STUDENT_STEPS, BATCH = 1500, 150, 32
WORK.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)


class Language:
    """Six topics with their own nouns, verbs and adjectives; determiner, adjective, noun and verb agree in
    number; each noun prefers some adjectives and each verb some objects; each topic has fixed phrases of
    three words."""

    def __init__(self):
        rng = random.Random(1)
        stems = ["".join(pair) for pair in itertools.product(
            ["".join(s) for s in itertools.product("bdfgklmnprstvz", "aeiou")], repeat=2)]
        rng.shuffle(stems)
        take = iter(stems)
        self.determiners = [[next(take) for _ in range(3)] for _ in range(2)]        # by number
        self.prepositions = [next(take) for _ in range(4)]
        self.joins = [next(take) for _ in range(3)]
        self.topics = []
        for _ in range(6):
            self.topics.append({
                "nouns": [next(take) for _ in range(10)], "verbs": [next(take) for _ in range(5)],
                "adjectives": [next(take) for _ in range(5)],
                "phrases": [[next(take) for _ in range(3)] for _ in range(2)]})

    def words(self):
        found = set(self.prepositions + self.joins + sum(self.determiners, []))
        for topic in self.topics:
            found.update(sum(topic["phrases"], []))
            for kind in "nouns", "verbs", "adjectives":
                found.update(word + ending for word in topic[kind] for ending in ("n", "s"))
        return sorted(found)

    def group(self, rng, topic, noun, number):
        """Determiner, perhaps an adjective that the noun prefers, noun."""
        ending = "ns"[number]
        out = [rng.choice(self.determiners[number])]
        if rng.random() < 0.6:
            out.append(topic["adjectives"][(noun + (rng.random() < 0.3)) % 5] + ending)
        return out + [topic["nouns"][noun] + ending]

    def clause(self, rng, topic):
        number = rng.randrange(2)
        noun, verb = min(rng.randrange(10), rng.randrange(10)), rng.randrange(5)
        out = self.group(rng, topic, noun, number) + [topic["verbs"][verb] + "ns"[number]]
        out += self.group(rng, topic, (2 * verb + rng.randrange(3)) % 10, rng.randrange(2))
        if rng.random() < 0.3:
            out += rng.choice(topic["phrases"])
        elif rng.random() < 0.5:
            out += [rng.choice(self.prepositions)] + self.group(rng, topic, rng.randrange(10), number)
        return out

    def sentence(self, rng):
        """12 to 24 words of one topic."""
        while True:
            topic = rng.choice(self.topics)
            out = self.clause(rng, topic) + [rng.choice(self.joins)] + self.clause(rng, topic)
            if 12 <= len(out) <= 24:
                return " ".join(out)


def random_teacher(words):
    """A folder with random weights and a vocabulary of the language's words."""
    folder = WORK / "random"
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + words)}
    fast = PreTrainedTokenizerFast(tokenizer_object=BertWordPieceTokenizer(vocabulary),
                                   unk_token="[UNK]", sep_token="[SEP]", cls_token="[CLS]",
                                   pad_token="[PAD]", mask_token="[MASK]", model_max_length=32)
    torch.manual_seed(1)
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=64, num_hidden_layers=4,
                        num_attention_heads=4, intermediate_size=256, max_position_embeddings=32,
                        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    BertForMaskedLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def train(teacher, student, texts, **options):
    options = {"gradient_accumulation_steps": 1, "batch_size": BATCH, "mlm_smoothing": 0,
               "freeze_pos_embs": False, "max_tokens": 32, **options}
    with open(f"{student}.log", "w") as log:
        subprocess.run([TOOL, str(teacher), str(texts), str(student), "triple", json.dumps(options), "2"],
                       check=True, stdout=log, stderr=subprocess.STDOUT)
    return student


def masked_loss(folder, lines):
    """Mean loss at 15 % of the tokens of the lines; the same tokens for every model."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(WORK / "random")
    model = DistilBertForMaskedLM.from_pretrained(folder).eval()
    generator = torch.Generator().manual_seed(7)
    total = count = 0
    with torch.no_grad():
        for i in range(0, len(lines), 32):
            batch = tokenizer(lines[i:i + 32], padding=True, truncation=True, return_tensors="pt")
            ids, mask = batch["input_ids"], batch["attention_mask"]
            chosen = (torch.rand(ids.shape, generator=generator) < 0.15) & (mask == 1) & (ids > 4)
            labels = torch.where(chosen, ids, torch.full_like(ids, -100))
            loss = model(input_ids=torch.where(chosen, torch.full_like(ids, tokenizer.mask_token_id), ids),
                         attention_mask=mask, labels=labels).loss
            total += loss.item() * chosen.sum().item()
            count += chosen.sum().item()
    return total / count


def unigram_entropy(lines):
    counts = collections.Counter(word for line in lines for word in line.split())
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values())


def write_texts(name, lines):
    path = WORK / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main():
    language, rng = Language(), random.Random(2)
    sizes = [1000, STUDENT_STEPS * BATCH, TEACHER_STEPS * BATCH]
    sentences = {}                                      # a dict keeps the order, a set does not
    while len(sentences) < sum(sizes):
        sentences[language.sentence(rng)] = True
    sentences = iter(sentences)
    unseen, students, teachers = (list(itertools.islice(sentences, size)) for size in sizes)
    student_texts = write_texts("students.txt", students)
    labels_only = {"alpha_ce": 0, "alpha_cos": 0}                       # leaves alpha_mlm at its default
    teacher = train(random_teacher(language.words()), WORK / "teacher", write_texts("teacher.txt", teachers),
                    layers=4, max_steps=TEACHER_STEPS, learning_rate=2e-3, **labels_only)
    entropy, learnt = unigram_entropy(unseen), masked_loss(teacher, unseen)
    untrained = masked_loss(train(teacher, WORK / "untrained", student_texts, layers=2, max_steps=0), unseen)
    print(f"{len(language.words())} words, unigram entropy {entropy:.4f}; masked-word loss of the teacher "
          f"{learnt:.4f}, of an untrained student {untrained:.4f}", flush=True)
    wins = 0
    for seed in SEEDS:
        common = {"layers": 2, "max_steps": STUDENT_STEPS, "learning_rate": 5e-4, "seed": seed}
        triple = train(teacher, WORK / f"triple{seed}", student_texts, **common)
        labels = train(teacher, WORK / f"labels{seed}", student_texts, **common, **labels_only)
        triple, labels = masked_loss(triple, unseen), masked_loss(labels, unseen)
        wins += triple < labels
        print(f"seed {seed}: triple loss {triple:.4f}, masked words only {labels:.4f}, "
              f"difference {labels - triple:+.4f}", flush=True)
    sys.exit(0 if wins == len(SEEDS) and learnt < entropy / 2 else 1)


if __name__ == "__main__":
    main()
