"""Model folders in the formats of the rivals: ONNX (plain, fused, int8), OpenVINO (float32, int8 weights, int8) and CTranslate2.

Everything of one model is made once, in FOLDER beside its config.json.  The rule a newcomer would break: what is converted is the
bare encoder (last hidden state), without pooler, for every rival; CTranslate2 keeps the pooler it insists on.
"""
import os
import shutil

import numpy as np

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")
CALIBRATION_TEXTS, CALIBRATION_TOKENS = 64, 128


def make_random(folder, name, tokenizer_folder):
    """A BERT or DistilBERT of the usual size with random weights that are not all alike (biases and norms too)."""
    import torch
    from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel
    torch.manual_seed(1)
    if name == "distilbert":
        model = DistilBertModel(DistilBertConfig())
    else:  # CTranslate2's converter asks for the field
        model = BertModel(BertConfig(position_embedding_type="absolute"), add_pooling_layer=False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    for file in TOKENIZER_FILES:
        shutil.copy(os.path.join(tokenizer_folder, file), folder)


def load(folder, **options):
    from transformers import AutoModel
    if "add_pooling_layer" not in options and not is_distilbert(folder):
        options["add_pooling_layer"] = False
    return AutoModel.from_pretrained(folder, **options).eval()


def is_distilbert(folder):
    with open(os.path.join(folder, "config.json")) as config:
        return '"distilbert"' in config.read()


def inputs(folder, ids, mask=None):
    """Named int64 arrays of a batch of token ids [texts, tokens]."""
    named = {"input_ids": ids, "attention_mask": np.ones_like(ids) if mask is None else mask}
    if not is_distilbert(folder):
        named["token_type_ids"] = np.zeros_like(ids)
    return named


def export_onnx(folder, path):
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids=None):
            types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            return self.model(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state

    example = np.random.default_rng(1).integers(1000, 30000, (2, 24))
    mask = np.ones_like(example)
    mask[1, 20:] = 0
    example = inputs(folder, example, mask)
    axes = {name: {0: "texts", 1: "tokens"} for name in [*example, "hidden"]}
    torch.onnx.export(Encoder(load(folder, attn_implementation="eager")), tuple(map(torch.from_numpy, example.values())), path,
                      input_names=list(example), output_names=["hidden"], dynamic_axes=axes, dynamo=False, opset_version=17)


def fuse_onnx(folder, source, path):
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions
    from transformers import AutoConfig
    config = AutoConfig.from_pretrained(folder)
    options = FusionOptions("bert")
    options.enable_gelu_approximation = False
    model = optimizer.optimize_model(source, model_type="bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size,
                                     optimization_options=options, opt_level=1 if is_distilbert(folder) else 0, use_gpu=False)
    model.save_model_to_file(path)


def quantize_onnx(source, path):
    from onnxruntime.quantization import QuantType, quantize_dynamic
    quantize_dynamic(source, path, weight_type=QuantType.QInt8, per_channel=True,
                     extra_options={"MatMulConstBOnly": True, "DefaultTensorType": 1})


def save_openvino(model, path):
    import openvino
    openvino.save_model(model, path, compress_to_fp16=False)


def compress_openvino(source, path):
    import nncf
    import openvino
    save_openvino(nncf.compress_weights(openvino.Core().read_model(source), mode=nncf.CompressWeightsMode.INT8_SYM), path)


def quantize_openvino(folder, source, path, texts):
    import nncf
    import openvino
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.no_padding()
    data = nncf.Dataset(texts[:CALIBRATION_TEXTS],
                        lambda text: inputs(folder, np.array([tokenizer.encode(text).ids[:CALIBRATION_TOKENS]], np.int64)))
    save_openvino(nncf.quantize(openvino.Core().read_model(source), data, model_type=nncf.ModelType.TRANSFORMER,
                                subset_size=CALIBRATION_TEXTS), path)


def convert_ctranslate2(folder, path):
    import ctranslate2
    ctranslate2.converters.TransformersConverter(folder).convert(path, force=True)


def convert(folder, texts):
    """Make what is missing; texts calibrate int8."""
    import openvino
    path = {name: os.path.join(folder, name) for name in
            ("plain.onnx", "fused.onnx", "int8.onnx", "plain.xml", "weights8.xml", "int8.xml", "ct2")}
    steps = {
        "plain.onnx": lambda to: export_onnx(folder, to),
        "fused.onnx": lambda to: fuse_onnx(folder, path["plain.onnx"], to),
        "int8.onnx": lambda to: quantize_onnx(path["fused.onnx"], to),
        "plain.xml": lambda to: save_openvino(openvino.convert_model(path["plain.onnx"]), to),
        "weights8.xml": lambda to: compress_openvino(path["plain.xml"], to),
        "int8.xml": lambda to: quantize_openvino(folder, path["plain.xml"], to, texts),
        "ct2": lambda to: convert_ctranslate2(folder, to),
    }
    for name, step in steps.items():
        if not os.path.exists(path[name]):
            step(path[name])
