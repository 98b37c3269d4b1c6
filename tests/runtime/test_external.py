"""Weights kept beside the model are found without the onnx package."""

import contextlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import edgefc
import edgefc.export.exporter
from edgefc.devices.estimating.work import work_of
from edgefc.errors import ModelError
from edgefc.export import export, verify
from edgefc.export.inspecting.inspector import inspect
from edgefc.modelfile.weights import weight_files
from edgefc.runtime import Session
from edgefc.runtime.profiling.request import model_file
from tests.support import links, store_models
from tests.support import onnx_models as models


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matmul of 64 x 64 with its weights in m.data, as onnx itself writes it."""
    path = models.matmul(tmp_path_factory.mktemp("external") / "m.onnx", 64, 64)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    return path


def test_weights_beside_the_model_count_as_its_size(external: Path) -> None:
    found = model_file(str(external), "m.onnx")

    assert [file.name for file in found.weights] == ["m.data"]
    assert found.weights[0].file_bytes >= 64 * 64 * 4 > found.file_bytes
    assert found.all_bytes == found.file_bytes + found.weights[0].file_bytes


def test_weights_inside_the_model_are_no_file(tmp_path: Path) -> None:
    assert weight_files(models.matmul(tmp_path / "m.onnx")) == []


def test_weights_that_are_not_there_are_missed(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"its weights file 'weights\.bin' does not exist\. Copy it to the model's folder\."
    ):
        weight_files(models.missing_weights(tmp_path / "m.onnx"))


@pytest.mark.parametrize("location", ["../secret.bin", "a/../../secret.bin", "/etc/hostname"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    """They would be read, and sent to a device, because a file of unknown origin names them."""
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    (tmp_path / "models").mkdir()
    path = models.missing_weights(tmp_path / "models/m.onnx", location)

    with pytest.raises(ModelError, match=f"its weights file '{location}' is outside the model's folder"):
        weight_files(path)


@pytest.mark.parametrize("place", links.ACCEPTED)
@pytest.mark.parametrize("relative", [True, False])
def test_what_onnxruntime_accepts_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: links.Place, relative: bool
) -> None:
    path = place(tmp_path)
    if relative:
        monkeypatch.chdir(path.parent)
        path = Path(path.name)

    assert Session(path, native="off").run({"x": np.eye(1, 16, dtype=np.float32)})["y"][0, 0] == 1
    assert [file.stat().st_size for file in weight_files(path)] == [1024]
    assert (inspect(path).data_bytes, inspect(path).numbers) == (1024, 256)


@pytest.mark.parametrize("place", links.REFUSED)
def test_what_onnxruntime_refuses_is_refused(tmp_path: Path, place: links.Place) -> None:
    path = place(tmp_path)

    with pytest.raises(Exception, match="ONNXRuntimeError"):
        ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    sentence = r"cannot load .*: (its weights file '.*' is outside the model's folder|tensor 'w' names no file for)"
    for read in (lambda path: Session(path, native="off"), weight_files, inspect):
        with pytest.raises(ModelError, match=sentence):
            read(path)


def test_a_linked_snapshot_in_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exported with weights beside it, moved into a cache of blobs and links, and read by those links."""
    monkeypatch.setattr(edgefc.export.exporter, "EXTERNAL_FROM_BYTES", 1)
    model, x = nn.Sequential(edgefc.CirculantLinear(8, 600), nn.Linear(600, 4)).eval(), torch.randn(2, 8)
    data = export(model, x, tmp_path / "m.onnx", verify=False).data
    assert data is not None
    snapshot, blobs = tmp_path / "snapshots/1", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name, blob in (("m.onnx", "a"), (data.name, "b")):
        (tmp_path / name).rename(blobs / blob)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")

    found = inspect(snapshot / "m.onnx")

    assert [layer.stored for layer in found.layers] == [1200]
    assert found.data_bytes == (blobs / "b").stat().st_size >= 4 * (1200 + 2400)
    assert model_file(str(snapshot / "m.onnx"), "m.onnx").weights[0].file_bytes == found.data_bytes
    assert verify(snapshot / "m.onnx", model, x).holds
    assert work_of(snapshot / "m.onnx", 2).file_bytes == found.file_bytes + found.data_bytes


@pytest.mark.parametrize("make", [store_models.branches, store_models.constant, store_models.function])
def test_weights_at_any_depth_are_found(tmp_path: Path, make: store_models.Make) -> None:
    """In the branches of an If, in a Constant, in a local function."""
    model = make()
    onnx.save_model(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0,
        convert_attribute=True,
    )  # fmt: skip

    assert weight_files(tmp_path / "m.onnx") == [tmp_path / "m.data"]


@given(st.binary(min_size=1, max_size=200), st.integers(0, 300))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path: Path, external: Path, junk: bytes, at: int) -> None:
    data = external.read_bytes()
    (tmp_path / "junk.onnx").write_bytes(data[:at] + junk + data[at:])

    with contextlib.suppress(ModelError):
        assert isinstance(weight_files(tmp_path / "junk.onnx"), list)
