#!/usr/bin/env python3
"""Losses and gradients of both training methods by PyTorch: losses.goldens.safetensors.

    python make_losses.py          needs torch, transformers, sentence-transformers, safetensors

The formulas are those of the DistilBERT training scripts, on a padded batch with an attention
mask, dropout 0, in float64.  Tensors:
  triple.ids, triple.labels, triple.starts    the batch, rows concatenated (already masked)
  triple.losses [2, 4]      ce, mlm, mse, cos: all tokens; restricted to masked tokens
  triple0.NAME, triple1.NAME   gradients of 5 ce + 2 mlm + 0.5 mse + 1 cos for both
  causal.ids, causal.starts, causal.labels, causal.losses [4], causal.NAME   ce, clm, mse, cos of a causal teacher; Conv1D
                            gradients turned to [out, in]
  embedding.ids, embedding.starts, embedding.losses [1], embedding.NAME   mean squared distance of sentence vectors
The student of triple is a DistilBERT of the layers 1, 0 of models/bert-mlm, with segment row 0 added
to the position table; of causal, layers 1, 0 of models/heads-gpt2; of embedding, layer 1 of models/bert-sentence.
"""
import copy
import os

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM, GPT2Config, GPT2LMHeadModel

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "losses.goldens.safetensors")
MODELS = os.path.join(HERE, "models")
LAYERS = [1, 0]
LENGTHS = [17, 12, 23, 14]
MASK = 4
TEMPERATURE = 2.0
ALPHA = {"ce": 5.0, "mlm": 2.0, "mse": 0.5, "cos": 1.0}


def make_batch(generator, vocabulary, lengths):
    ids = []
    for n in lengths:
        body = torch.randint(5, vocabulary, (n - 2,), generator=generator)
        ids.append(torch.cat([torch.tensor([2]), body, torch.tensor([3])]))
    longest = max(lengths)
    padded = torch.zeros(len(ids), longest, dtype=torch.long)
    mask = torch.zeros(len(ids), longest, dtype=torch.long)
    for i, row in enumerate(ids):
        padded[i, :len(row)] = row
        mask[i, :len(row)] = 1
    return padded, mask


def flatten(tensor, mask):
    return tensor[mask.bool()].to(torch.int32).contiguous()


def starts(lengths):
    return torch.tensor([0] + list(torch.tensor(lengths).cumsum(0)), dtype=torch.int32)


def distilbert_student(teacher):
    c = teacher.config
    config = DistilBertConfig(vocab_size=c.vocab_size, max_position_embeddings=c.max_position_embeddings,
                              n_layers=len(LAYERS), n_heads=c.num_attention_heads, dim=c.hidden_size,
                              hidden_dim=c.intermediate_size, dropout=0, attention_dropout=0, activation=c.hidden_act)
    student = DistilBertForMaskedLM(config).double()
    t = teacher.state_dict()
    new = {}
    new["distilbert.embeddings.word_embeddings.weight"] = t["bert.embeddings.word_embeddings.weight"]
    new["distilbert.embeddings.position_embeddings.weight"] = (
        t["bert.embeddings.position_embeddings.weight"] + t["bert.embeddings.token_type_embeddings.weight"][0])
    names = {"attention.q_lin": "attention.self.query", "attention.k_lin": "attention.self.key",
             "attention.v_lin": "attention.self.value", "attention.out_lin": "attention.output.dense",
             "sa_layer_norm": "attention.output.LayerNorm", "ffn.lin1": "intermediate.dense",
             "ffn.lin2": "output.dense", "output_layer_norm": "output.LayerNorm"}
    for kind in ("weight", "bias"):
        new[f"distilbert.embeddings.LayerNorm.{kind}"] = t[f"bert.embeddings.LayerNorm.{kind}"]
        for i, layer in enumerate(LAYERS):
            for s, b in names.items():
                new[f"distilbert.transformer.layer.{i}.{s}.{kind}"] = t[f"bert.encoder.layer.{layer}.{b}.{kind}"]
        new[f"vocab_transform.{kind}"] = t[f"cls.predictions.transform.dense.{kind}"]
        new[f"vocab_layer_norm.{kind}"] = t[f"cls.predictions.transform.LayerNorm.{kind}"]
    new["vocab_projector.weight"] = t["cls.predictions.decoder.weight"]
    new["vocab_projector.bias"] = t["cls.predictions.bias"]
    missing, unexpected = student.load_state_dict(new, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    return student.train()


def triple(out):
    generator = torch.Generator().manual_seed(20)
    teacher = BertForMaskedLM.from_pretrained(os.path.join(MODELS, "bert-mlm")).double().eval()
    student = distilbert_student(teacher)
    v = teacher.config.vocab_size
    ids, mask = make_batch(generator, v, LENGTHS)
    labels = torch.full_like(ids, -100)
    chosen = [(0, 3), (0, 4), (0, 9), (1, 1), (2, 2), (2, 13), (2, 21), (3, 7), (3, 8)]
    for k, (i, j) in enumerate(chosen):
        labels[i, j] = ids[i, j]
        if k % 5 < 3:
            ids[i, j] = MASK
        elif k % 5 == 4:
            ids[i, j] = 77
    out["triple.ids"] = flatten(ids, mask)
    out["triple.labels"] = flatten(labels, mask)
    out["triple.starts"] = starts(LENGTHS)
    with torch.no_grad():
        t = teacher(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    all_losses = []
    for restrict in (False, True):
        student.zero_grad()
        s = student(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        select = (labels > -1) if restrict else mask.bool()
        s_sel, t_sel = s.logits[select], t.logits[select]
        losses = {
            "ce": torch.nn.KLDivLoss(reduction="batchmean")(
                torch.nn.functional.log_softmax(s_sel / TEMPERATURE, dim=-1),
                torch.nn.functional.softmax(t_sel / TEMPERATURE, dim=-1)) * TEMPERATURE ** 2,
            "mlm": torch.nn.CrossEntropyLoss(ignore_index=-100)(s.logits.view(-1, v), labels.view(-1)),
            "mse": torch.nn.MSELoss(reduction="sum")(s_sel, t_sel) / s_sel.size(0),
        }
        s_hid, t_hid = s.hidden_states[-1][mask.bool()], t.hidden_states[-1][mask.bool()]
        losses["cos"] = torch.nn.CosineEmbeddingLoss(reduction="mean")(s_hid, t_hid, torch.ones(s_hid.size(0)).double())
        sum(ALPHA[k] * losses[k] for k in losses).backward()
        all_losses.append([losses[k].item() for k in ("ce", "mlm", "mse", "cos")])
        for name, p in student.named_parameters():
            if restrict and ("layer.1" in name or "embeddings.w" in name):
                continue  # once is enough for the large ones
            out[f"triple{int(restrict)}." + name.removeprefix("distilbert.")] = p.grad.float().clone()
    out["triple.losses"] = torch.tensor(all_losses, dtype=torch.float64)
    print(all_losses)


def causal_models():
    path = os.path.join(MODELS, "heads-gpt2")
    config = GPT2Config.from_json_file(os.path.join(path, "lm.config.json"))
    state = load_file(os.path.join(path, "backbone.safetensors"))
    student_state = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[1] == "h":
            parts[2] = str(LAYERS.index(int(parts[2])))
        student_state[".".join(parts)] = value
    models = []
    for weights in (state, student_state):
        config.embd_pdrop = config.attn_pdrop = config.resid_pdrop = 0.0
        model = GPT2LMHeadModel(config).double()
        missing, unexpected = model.load_state_dict(weights, strict=False)
        assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
        model.tie_weights()
        models.append(model)
    return models[0].eval(), models[1].train()


def causal(out):
    generator = torch.Generator().manual_seed(22)
    teacher, student = causal_models()
    v = teacher.config.vocab_size
    ids, mask = make_batch(generator, v, LENGTHS)
    for i, n in enumerate(LENGTHS):
        ids[i, 0] = ids[i, n - 1] = teacher.config.eos_token_id
    labels = torch.where(mask.bool(), ids, -100)
    shifted = torch.cat([labels[:, 1:], torch.full((len(LENGTHS), 1), -100)], 1)
    out["causal.ids"] = flatten(ids, mask)
    out["causal.labels"] = flatten(shifted, mask)
    out["causal.starts"] = starts(LENGTHS)
    with torch.no_grad():
        t = teacher(input_ids=ids, output_hidden_states=True)
    s = student(input_ids=ids, output_hidden_states=True)
    s_sel, t_sel = s.logits[mask.bool()], t.logits[mask.bool()]
    s_hid, t_hid = s.hidden_states[-1][mask.bool()], t.hidden_states[-1][mask.bool()]
    losses = {
        "ce": torch.nn.KLDivLoss(reduction="batchmean")(
            torch.nn.functional.log_softmax(s_sel / TEMPERATURE, dim=-1),
            torch.nn.functional.softmax(t_sel / TEMPERATURE, dim=-1)) * TEMPERATURE ** 2,
        "clm": torch.nn.CrossEntropyLoss(ignore_index=-100)(s.logits[:, :-1].reshape(-1, v), labels[:, 1:].reshape(-1)),
        "mse": torch.nn.MSELoss(reduction="sum")(s_sel, t_sel) / s_sel.size(0),
        "cos": torch.nn.CosineEmbeddingLoss(reduction="mean")(s_hid, t_hid, torch.ones(s_hid.size(0)).double()),
    }
    # the logits are small and so is ce: with this weight its gradient is as large as the others'
    (2000 * losses["ce"] + 2 * losses["clm"] + 0.5 * losses["mse"] + losses["cos"]).backward()
    out["causal.losses"] = torch.tensor([losses[k].item() for k in ("ce", "clm", "mse", "cos")], dtype=torch.float64)
    for name, p in student.named_parameters():
        g = p.grad.float().clone()
        turned = any(x in name for x in ("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        out["causal." + name.removeprefix("transformer.")] = g.T.contiguous() if turned else g
    print(losses)


def embedding(out):
    generator = torch.Generator().manual_seed(21)
    teacher = SentenceTransformer(os.path.join(MODELS, "bert-sentence"), device="cpu").double().eval()
    student = copy.deepcopy(teacher)
    bert = student[0].auto_model
    bert.encoder.layer = torch.nn.ModuleList([bert.encoder.layer[1]])
    bert.config.num_hidden_layers = 1
    lengths = [9, 5, 30]
    ids, mask = make_batch(generator, bert.config.vocab_size, lengths)
    out["embedding.ids"] = flatten(ids, mask)
    out["embedding.starts"] = starts(lengths)

    def vectors(model):
        return model({"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)})["sentence_embedding"]

    with torch.no_grad():
        t = vectors(teacher)
    loss = (vectors(student) - t).pow(2).sum(-1).mean()
    loss.backward()
    out["embedding.losses"] = torch.tensor([loss.item()], dtype=torch.float64)
    for name, p in bert.named_parameters():
        if p.grad is not None:
            out["embedding." + name] = p.grad.float().clone()
    for name, p in student[2].named_parameters():
        out["embedding.2_Dense/" + name] = p.grad.float().clone()
    print(loss.item())


def main():
    out = {}
    triple(out)
    causal(out)
    embedding(out)
    save_file({k: v.contiguous() for k, v in out.items()}, OUT)
    os.chmod(OUT, 0o644)


if __name__ == "__main__":
    main()
