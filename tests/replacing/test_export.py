"""Replaced models of real kinds are exported with open axes and agree with onnxruntime."""

from pathlib import Path
from typing import Any

import pytest
import torch

import edgefc
from edgefc.errors import UsageError
from edgefc.export import export
from edgefc.plan import Circulant, Half, Int3, Int4, Int8, LowRank, Monarch, Rule
from edgefc.replacing.replacing import preview
from tests.support import compress_models as models

PLAN = [
    Rule(type="Embedding", to=Int8(group=32)),
    Rule(type="Conv2d", to=Half()),
    Rule("*attention*", to=Int4()),
    Rule("*.self_attn.*", to=Int4()),
    Rule(type="Linear", to=LowRank(ratio=2)),
    Rule(type="Conv1D", to=LowRank(ratio=2)),
]


def used(model: torch.nn.Module) -> list[Rule]:
    """The rules that match something."""
    kept = []
    for rule in PLAN:
        try:
            preview(model, [*kept, rule])
            kept.append(rule)
        except UsageError:
            continue
    return kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "data"),
    [
        (models.bert, models.token_batches),
        (models.vit, models.images),
        (models.gpt2, models.token_batches),
        (models.llama, models.token_batches),
        (models.encoder, models.batches),
        (models.resnet, models.images),
        (models.speech, models.batches),
    ],
)
def test_models(make: Any, data: Any, tmp_path: Path) -> None:
    model, batches = make(), data()
    edgefc.replace(model, used(model), calibration=batches)
    x = batches[0]
    report = export(model, x if isinstance(x, dict) else (x,), tmp_path / "m.onnx")
    assert report.verified is not None
    assert report.verified.holds
    assert report.layers


@pytest.mark.parametrize(
    "to", [Int8(), Int4(), Int3(), Circulant(block=8), Monarch(), LowRank(storage="half")], ids=str
)
def test_kinds(to: Any, tmp_path: Path) -> None:
    model, batches = models.mlp(), models.batches(2)
    edgefc.replace(model, {"0": to}, calibration=batches)
    report = export(model, (batches[0],), tmp_path / "m.onnx")
    assert report.verified is not None
    assert report.verified.holds
