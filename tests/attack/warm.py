"""Import the modules of export, verify and bench, so that forked processes need not. None of them starts a thread."""

import importlib

for _name in (
    "torch.export", "torch.onnx", "torch._dynamo", "torch._export", "onnx", "onnxscript", "onnxruntime",
    "torch.onnx._internal.exporter._core", "torch.onnx._internal.exporter._torchlib.ops.core", "edgefc.export",
    "edgefc.export.model.source", "edgefc.runtime.profiling.profiler", "edgefc.runtime.profiling.table",
    "edgefc.bench.measure", "edgefc.bench.picture", "edgefc.devices.estimating.estimate", "edgefc.devices.many",
    "edgefc.devices.board.client", "edgefc.recipes.harness",
):  # fmt: skip
    try:
        importlib.import_module(_name)
    except ImportError:  # the module has another name in this version of torch
        continue
