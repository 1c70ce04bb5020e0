"""The rivals: each library at its best settings for one thread, as a function from token ids to the last hidden state.

A rival that is missing or does not run is an error of the whole benchmark; one that this CPU is not offered (offered() is False) is
printed as such.  The rule a newcomer would break: `any_length` rivals take texts of any length from one compiled model; the others
are compiled for one shape, printed beside them and never counted as the rival to beat.
"""
import dataclasses
import importlib.metadata
import os
import typing

import numpy as np

import convert

LIBRARIES = ("onnxruntime", "openvino", "nncf", "ctranslate2", "torch", "transformers", "sentence-transformers", "tokenizers")


# Instruction sets that both sides can be held to, to stand for older CPUs: the kinds of products they have, and what oneDNN (OpenVINO,
# PyTorch), CTranslate2, MKL, ATen and FBGEMM (PyTorch's int8; its AVX512_E1 has VNNI) are told.  Who has
# no such setting is left out, see Rival.holds().
ISAS = {
    "avx2": (("AVX2",), "AVX2", "AVX2", "AVX2", "avx2", "AVX2"),
    "avx_vnni": (("AVX2", "AVX-VNNI"), "AVX2_VNNI", "AVX2", "AVX2", "avx2", "AVX2"),
    "avx512": (("AVX2", "AVX-512"), "AVX512_CORE", "AVX512", "AVX512", "avx512", "AVX512"),
    "avx512_vnni": (("AVX2", "AVX-512", "AVX512-VNNI"), "AVX512_CORE_VNNI", "AVX512", "AVX512_E1", "avx512", "AVX512_E1"),
    "avx512_bf16": (("AVX2", "AVX-512", "AVX512-VNNI", "AVX512-BF16"), "AVX512_CORE_BF16", "AVX512", "AVX512_E3", "avx512", "AVX512_E1"),
}


def hold(isa):
    """To an instruction set of ISAS; before any library is imported."""
    names = ("ONEDNN_MAX_CPU_ISA", "CT2_FORCE_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY",
             "FBGEMM_ENABLE_INSTRUCTIONS")
    os.environ.update(zip(names, ISAS[isa][1:]))


def environment():
    """Set before any library is imported: one thread, no network, CTranslate2's widest kernels (it takes AVX2 on AMD by itself)."""
    for name in ("OMP", "MKL", "OPENBLAS", "RAYON", "NUMEXPR", "TBB"):
        os.environ[name + "_NUM_THREADS"] = "1"
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="",
                      TRANSFORMERS_VERBOSITY="error", TQDM_DISABLE="1", TORCHINDUCTOR_COMPILE_THREADS="1")
    with open("/proc/cpuinfo") as cpu:
        if " avx512f " in cpu.read():
            os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")


def versions():
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def forget_compiled():
    """PyTorch keeps few variants of one function and then runs it uncompiled without a word: before each length it starts anew."""
    import torch
    torch._dynamo.reset()


def torch_runner(folder, shape, dtype="float32", compiled=False, dynamic=False, int8=False):
    import torch
    torch.set_num_threads(1)
    model = convert.load(folder, attn_implementation="sdpa").to(getattr(torch, dtype))
    if int8:
        from torch.ao.quantization import quantize_dynamic
        model = quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    if compiled:
        import torch._inductor.config
        torch._inductor.config.freezing = True
        torch._inductor.config.cpp.threads = 1
        model = torch.compile(model, dynamic=dynamic)

    def run(ids, mask=None):
        with torch.no_grad():
            mask = None if mask is None else torch.from_numpy(mask)
            return model(input_ids=torch.from_numpy(ids), attention_mask=mask).last_hidden_state.float().numpy()
    return run


def onnx_runner(folder, shape, file):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(os.path.join(folder, file), options, providers=["CPUExecutionProvider"])
    types = {x.name: np.int32 if "int32" in x.type else np.int64 for x in session.get_inputs()}

    def run(ids, mask=None):
        feed = convert.inputs(folder, ids, mask)
        return session.run(None, {name: feed[name].astype(dtype, copy=False) for name, dtype in types.items()})[0]
    return run


def openvino_runner(folder, shape, file, hint="f32", group=None, fixed=False):
    import openvino
    core = openvino.Core()
    model = core.read_model(os.path.join(folder, file))
    if fixed:
        model.reshape({x.any_name: list(shape) for x in model.inputs})
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False,
                "INFERENCE_PRECISION_HINT": hint}
    if group is not None:
        settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = group
    compiled = core.compile_model(model, "CPU", settings)
    names = [x.any_name for x in compiled.inputs]
    request = compiled.create_infer_request()

    def run(ids, mask=None):
        feed = convert.inputs(folder, ids, mask)
        return request.infer({name: feed[name] for name in names}, share_inputs=True, share_outputs=True)[0]
    return run


def ctranslate2_runner(folder, shape, kind):
    import ctranslate2
    encoder = ctranslate2.Encoder(os.path.join(folder, "ct2"), device="cpu", compute_type=kind, inter_threads=1, intra_threads=1)

    def run(ids, mask=None):
        rows = ids.tolist() if mask is None else [row[:n].tolist() for row, n in zip(ids, mask.sum(1))]
        output = encoder.forward_batch(rows).last_hidden_state
        if "bfloat16" in str(output.dtype):
            output = output.to(ctranslate2.DataType.float32)
        return np.asarray(output)
    return run


def ctranslate2_offers(kind):
    import ctranslate2
    return kind in ctranslate2.get_supported_compute_types("cpu")


@dataclasses.dataclass
class Rival:
    name: str
    precision: str
    settings: str
    runner: typing.Callable
    options: dict
    any_length: bool = True
    offered: typing.Callable = lambda: True

    def holds(self, isa):
        """To an instruction set of ISAS.  ONNX Runtime's products ask the CPU by themselves, and so do OpenVINO's in float32, which are
        the same library's: they run in AVX-512 where it is."""
        if self.runner is onnx_runner:
            return False
        return self.runner is not openvino_runner or self.precision != "float32" or "AVX-512" in ISAS[isa][0]

    def open(self, folder, shape=None):
        """run(ids [texts, tokens], mask or None) -> float32 [texts, tokens, width]; shape: of those compiled for one."""
        return self.runner(folder, shape, **self.options)


def ct2(kind):
    precision = "int8" if kind.startswith("int8") else kind
    return Rival(f"CTranslate2 {kind}", precision, f"compute_type={kind}", ctranslate2_runner, {"kind": kind},
                 offered=lambda: ctranslate2_offers(kind))


def openvino_row(name, precision, file, any_length=True, **options):
    settings = ", ".join([file, f"hint {options.get('hint', 'f32')}"] +
                         ([f"dynamic groups of {options['group']}"] if "group" in options else []))
    return Rival(f"OpenVINO {name}", precision, settings, openvino_runner,
                 {"file": file, "fixed": not any_length, **options}, any_length)


RIVALS = [
    openvino_row("f32", "float32", "plain.xml"),
    Rival("ONNX Runtime fused", "float32", "onnxruntime.transformers optimizer", onnx_runner, {"file": "fused.onnx"}),
    Rival("ONNX Runtime plain", "float32", "its own graph optimisation", onnx_runner, {"file": "plain.onnx"}),
    ct2("float32"),
    Rival("PyTorch eager", "float32", "sdpa", torch_runner, {}),
    Rival("PyTorch compiled", "float32", "inductor, frozen, dynamic shapes", torch_runner, {"compiled": True, "dynamic": True}),
    Rival("PyTorch fixed compiled", "float32", "inductor, frozen", torch_runner, {"compiled": True}, any_length=False),
    openvino_row("fixed f32", "float32", "plain.xml", any_length=False),

    openvino_row("bf16", "bfloat16", "plain.xml", hint="bf16"),
    ct2("bfloat16"),
    Rival("PyTorch eager bf16", "bfloat16", "sdpa", torch_runner, {"dtype": "bfloat16"}),
    Rival("PyTorch compiled bf16", "bfloat16", "inductor, frozen, dynamic shapes", torch_runner,
          {"dtype": "bfloat16", "compiled": True, "dynamic": True}),
    Rival("PyTorch fixed compiled bf16", "bfloat16", "inductor, frozen", torch_runner, {"dtype": "bfloat16", "compiled": True},
          any_length=False),
    openvino_row("fixed bf16", "bfloat16", "plain.xml", any_length=False, hint="bf16"),

    openvino_row("int8 calibrated", "int8", "int8.xml"),
    openvino_row("int8 calibrated, rest bf16", "int8", "int8.xml", hint="bf16"),
    openvino_row("int8 dynamic 32", "int8", "weights8.xml", group=32),
    openvino_row("int8 dynamic 128", "int8", "weights8.xml", group=128),
    openvino_row("int8 weights, bf16", "int8", "weights8.xml", hint="bf16"),
    ct2("int8_float32"),
    ct2("int8_bfloat16"),
    Rival("ONNX Runtime int8", "int8", "quantize_dynamic of the fused graph", onnx_runner, {"file": "int8.onnx"}),
    Rival("PyTorch int8", "int8", "torch.ao dynamic", torch_runner, {"int8": True}),
    openvino_row("fixed int8 calibrated", "int8", "int8.xml", any_length=False),
]
