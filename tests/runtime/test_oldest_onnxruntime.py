"""Exported files and the native kernels give the same answers in the oldest onnxruntime that pyproject.toml allows."""

import re
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import edgefc
from edgefc.catalogue import Called, entries
from edgefc.export import export
from tests.support import native_models, native_ops, stored_models

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
OLDEST = re.search(r'"onnxruntime>=([\d.]+)', (ROOT / "pyproject.toml").read_text())[1]
RUN = """
import sys, numpy, onnxruntime
library, *files = sys.argv[1:]
for file in files:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if file.endswith("native.onnx"):
        options.register_custom_ops_library(library)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    x = numpy.load(file + ".x.npy")
    numpy.save(file + ".y.npy", session.run(None, {session.get_inputs()[0].name: x})[0])
print(onnxruntime.__version__)
"""
LOAD = """
import sys
from edgefc.errors import ModelError
from edgefc.runtime import Session
for file in sys.argv[1:]:
    try:
        Session(file)
    except ModelError as error:
        print(error)
"""
CASES = {
    "circulant": (edgefc.CirculantLinear(768, 768), {}),
    "circulant-prime": (edgefc.CirculantLinear(509, 300), {}),
    "circulant-blocks": (edgefc.CirculantLinear(100, 60, block=8), {}),
    "circulant-dft": (edgefc.CirculantLinear(96, 60), {"bodies": {"CirculantLinear": "dft"}}),
    "circulant-flat": (edgefc.CirculantLinear(96, 60), {"flat": True}),
    "prp-resident": (edgefc.PRPLinear(300, 701), {"bodies": {"PRPLinear": "resident"}}),
    "prp-streaming": (edgefc.PRPLinear(300, 701, distribution="ternary"), {"bodies": {"PRPLinear": "streaming"}}),
    "prp-flat": (edgefc.PRPLinear(301, 7, distribution="rademacher"), {"flat": True}),
    "prp-sparse": (edgefc.PRPLinear(300, 201, distribution="sparse", rank=3), {"bodies": {"PRPLinear": "streaming"}}),
    "prp-stored": (edgefc.PRPLinear(300, 201, distribution="orthogonal"), {}),
    "prp-transform": (edgefc.PRPLinear(300, 701, distribution="hadamard", rank=3), {}),
    "prp-transform-flat": (edgefc.PRPLinear(96, 60, distribution="hadamard"), {"flat": True}),
}


def every_layer(folder: Path) -> Iterator[tuple[Path, np.ndarray]]:
    """Each layer of the catalogue as a file, its input beside it, and torch's answer."""
    torch.manual_seed(0)
    for number, entry in enumerate(entries()):
        if "2 bits" in entry.name:  # onnxruntime multiplies them from 1.26 on
            continue
        file, x = folder / f"{number} {entry.name}.onnx", entry.example(24)
        layer = Called(entry, entry.make(24)).eval()
        export(layer, x, file)
        np.save(f"{file}.x.npy", x.numpy())
        yield file, layer(x).detach().numpy()


def every_kernel(folder: Path) -> Iterator[tuple[Path, np.ndarray]]:
    """Each op of the native library, without its body, at a few sizes and kinds."""
    for op in native_ops.OPS:
        for kind, (n, m) in enumerate([(1, 1), (97, 130), (300, 64), (1000, 512)]):
            file = folder / f"{op} {n} {m} native.onnx"
            x = torch.from_numpy(native_models.inputs(5, n))
            file.write_bytes(native_ops.model(op, n, m, kind, body=False).SerializeToString())
            np.save(f"{file}.x.npy", x.numpy())
            yield file, native_ops.layer(op, n, m, kind).double()(x.double()).detach().numpy()


@torch.no_grad()
def test_the_oldest_onnxruntime_agrees(tmp_path, tmp_path_factory) -> None:
    library = native_models.library(tmp_path_factory)
    expected = dict(every_layer(tmp_path)) | dict(every_kernel(tmp_path))
    for name, (layer, options) in CASES.items():
        x = torch.randn(5, layer.in_features)
        file = tmp_path / f"{name}.onnx"
        export(layer, x, file, **options)
        np.save(f"{file}.x.npy", x.numpy())
        expected[file] = (x.double() @ layer.double().dense().T + layer.bias).detach().numpy()
    (tmp_path / "stored").mkdir()
    refused, bounds = [], {}
    for case, file, x, y in stored_models.files(tmp_path / "stored"):
        if case.name in ("2 bits", "2 bits, corrected"):
            refused.append(file)
            continue
        np.save(f"{file}.x.npy", x)
        expected[file], bounds[file] = y, case.bound
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    install = [python, "-m", "pip", "install", "-q", f"onnxruntime=={OLDEST}.0", "numpy"]
    subprocess.run(install, check=True, capture_output=True)

    result = subprocess.run(
        [python, "-c", RUN, library, *map(str, expected)], check=True, capture_output=True, text=True
    )

    assert result.stdout.strip().startswith(OLDEST)
    load = [python, "-c", LOAD, *map(str, refused)]
    said = subprocess.run(load, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    assert len(said) == 2
    assert all(f"need onnxruntime 1.28, and {OLDEST}.0 is installed" in line for line in said)
    for file, reference in expected.items():
        actual = np.load(f"{file}.y.npy")
        bound = 1e-9 if "dft" in file.name else 1e-12  # onnxruntime's DFT is the less accurate one
        bound = 1e-3 if "QuantizedLinear" in file.name else bounds.get(file, bound)  # rounds its inputs to int8
        assert np.square(actual - reference).sum() <= bound * np.square(reference).sum(), file.name
