"""Tables of Gather become fitted tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefc.plan import Half, Int2, Int4, Int8, LowRank
from edgefc.rewriting import replace_file
from tests.support.onnx_models import INT64, write
from tests.support.rewriting_models import drawn, free, node, operators, run

RNG = np.random.default_rng(3)
IDS = {"ids": np.array([[0, 1, 7], [-1, 299, -300]])}


def embedding(path: Path, table: Any, dtype: int = 1) -> Path:
    nodes = [node("Gather", ["table", "ids"], ["a"]), node("Gather", ["table", "ids"], ["b"], axis=-2)]
    return write(path, nodes, {"ids": (INT64, ["n", "t"])}, dict.fromkeys("ab", free(3, dtype)), {"table": table})


@pytest.mark.parametrize(
    ("to", "bound", "ratio"),
    [
        (Half(), 1e-3, 0.5),
        (Int8(group=32), 1e-2, 0.3),
        (Int4(group=16, rotate=False), 0.12, 0.2),
        (Int2(rotate=False), 0.6, 0.1),
    ],
)
def test_rows_of_a_table(tmp_path: Path, to: Any, bound: float, ratio: float) -> None:
    table = drawn(300, 96)
    path = embedding(tmp_path / "m.onnx", table)
    report = replace_file(path, to, tmp_path / "small.onnx")
    (layer,) = report.layers
    assert layer.names == ("node_a", "node_b") and layer.bytes_after <= ratio * table.nbytes
    for value in run(tmp_path / "small.onnx", IDS).values():
        assert np.linalg.norm(value - table[IDS["ids"]]) < bound * np.linalg.norm(table[IDS["ids"]])
    expected = ["Gather", "Cast"] if isinstance(to, Half) else ["QuantizedEmbedding"]
    assert operators(tmp_path / "small.onnx") == expected * 2


@pytest.mark.parametrize("storage", [None, "half", "int8"])
def test_a_low_rank_is_found_and_frequent_rows_weigh_more(tmp_path: Path, storage: Any) -> None:
    left = RNG.standard_normal((300, 8))
    rare = RNG.standard_normal((300, 96)) * (np.arange(300) >= 20)[:, None]
    table = (left @ RNG.standard_normal((8, 96)) + rare).astype(np.float32)
    path = embedding(tmp_path / "m.onnx", table)
    ids = {"ids": RNG.integers(0, 20, (400, 50))}
    report = replace_file(path, LowRank(rank=8, storage=storage), tmp_path / "small.onnx", calibration=ids)
    assert report.layers[0].samples == 320 * 50
    wanted = table[ids["ids"]]
    assert np.linalg.norm(run(tmp_path / "small.onnx", ids)["a"] - wanted) < 0.05 * np.linalg.norm(wanted)


def test_a_table_in_float16(tmp_path: Path) -> None:
    table = drawn(300, 96, dtype=np.float16)
    path = embedding(tmp_path / "m.onnx", table, 10)
    replace_file(path, Int8(group=32), tmp_path / "small.onnx")
    value = run(tmp_path / "small.onnx", IDS)["a"]
    assert value.dtype == np.float16
    np.testing.assert_allclose(value, table[IDS["ids"]], atol=0.01)
