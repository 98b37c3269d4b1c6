"""inspect(): the numbers of a file's structured layers, read and not run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

import edgefc.export.exporter
from edgefc import CirculantLinear, PRPLinear
from edgefc.errors import ModelError, UsageError
from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from tests.support import cli_models as models
from tests.support import onnx_models


def test_what_is_stored(tmp_path: Path) -> None:
    """Circulant 8 to 16: 16 numbers and a bias of 16; PRP 16 to 4: 16 + 4 and a bias of 4; dense 16 x 16 + 16."""
    model: Any = models.tiny()
    export(model, models.rows(2), tmp_path / "m.onnx", verify=False)

    found = inspect(tmp_path / "m.onnx")

    first, second = found.layers
    assert (first.name, first.op, first.shape) == ("0", "CirculantLinear", "16 x 8")
    assert (first.stored, first.stored_bytes, first.dense, first.dense_bytes) == (32, 128, 144, 576)
    assert first.detail == f"block 16, signs from seed {model[0].seed}"
    assert (second.name, second.op, second.stored, second.stored_bytes) == ("3", "PRPLinear", 24, 96)
    assert second.detail == f"gaussian, seed {model[3].seed}"
    assert (found.file, found.opset, found.flat, found.data_bytes) == ("m.onnx", 20, False, 0)
    assert found.file_bytes == (tmp_path / "m.onnx").stat().st_size
    assert found.other_numbers == 16 * 16 + 16
    assert found.numbers == 32 + 24 + 16 * 16 + 16 + found.function_numbers


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = PRPLinear(8, 8, seed=2**64 - 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(self.layer(x))
        return y


def test_a_shared_layer_counts_once(tmp_path: Path) -> None:
    """And a seed above 2^63 is shown as it was given."""
    export(Shared(), models.rows(2), tmp_path / "m.onnx", verify=False)

    layers = inspect(tmp_path / "m.onnx").layers

    assert [(layer.name, layer.stored) for layer in layers] == [("layer", 24), ("layer#2", 0)]
    assert layers[0].detail == "gaussian, seed 18446744073709551615"


@pytest.mark.parametrize(
    ("dtype", "width"), [pytest.param(torch.float16, 2, marks=pytest.mark.slow), (torch.float64, 8)]
)
def test_bytes_of_other_floats(tmp_path: Path, dtype: torch.dtype, width: int) -> None:
    export(CirculantLinear(8, 8).to(dtype), models.rows(2).to(dtype), tmp_path / "m.onnx", verify=False)

    (layer,) = inspect(tmp_path / "m.onnx").layers

    assert (layer.stored_bytes, layer.dense_bytes) == (16 * width, 72 * width)


def test_weights_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edgefc.export.exporter, "EXTERNAL_FROM_BYTES", 1)
    data = export(CirculantLinear(8, 600), models.rows(2), tmp_path / "m.onnx", verify=False).data
    assert data is not None

    found = inspect(tmp_path / "m.onnx")

    assert found.data_bytes == data.stat().st_size > 0
    assert found.layers[0].stored == 1200
    data.unlink()
    with pytest.raises(ModelError, match=r"its weights file 'm-[0-9a-f]{12}\.onnx\.data' does not exist\. Copy it to"):
        inspect(tmp_path / "m.onnx")


def test_flat_files_say_why_they_show_none(tmp_path: Path) -> None:
    export(models.tiny(), models.rows(2), tmp_path / "m.onnx", verify=False, flat=True)

    found = inspect(tmp_path / "m.onnx")

    assert found.layers == () and found.flat
    assert found.why_none == " that can be identified, since its functions were inlined (--flat)"


def test_a_file_of_someone_else(tmp_path: Path) -> None:
    found = inspect(onnx_models.matmul(tmp_path / "m.onnx"))

    assert (found.layers, found.flat, found.why_none, found.other_numbers) == ((), False, "", 32)


def test_a_node_of_ours_that_is_not(tmp_path: Path) -> None:
    """In our domain, without what our nodes have."""
    node = helper.make_node("CirculantLinear", ["x", "w"], ["y"], domain="edgefc")
    port = (onnx_models.FLOAT, ["n", 8])
    path = onnx_models.write(
        tmp_path / "m.onnx", [node], {"x": port}, {"y": port}, {"w": np.ones(8)}, opsets={"": 20, "edgefc": 1}
    )  # type: ignore[dict-item]

    with pytest.raises(ModelError, match=r"edgefc::CirculantLinear, has no sign_seed\."):
        inspect(path)


@pytest.mark.parametrize("data", [b"", b"no model", b"\x08\x0a"], ids=["empty", "text", "two-bytes"])
def test_files_that_are_no_model(tmp_path: Path, data: Any) -> None:
    (tmp_path / "m.onnx").write_bytes(data)

    with pytest.raises(ModelError, match=r"is not an ONNX file|is empty|is not a valid ONNX model") as caught:
        inspect(tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(UsageError, match="no file"):
            inspect(path)
