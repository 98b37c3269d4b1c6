"""The catalogue in numbers: each layer built, counted and exported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgefc import temporary
from edgefc.catalogue import Called, Entry, entries
from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from edgefc.progress import Bar
from edgefc.recipes.measured import summary

COLUMNS = (
    "layer", "paper", "in the place of", "op", "paper's claim", "recipe",
    "numbers", "dense numbers", "multiply-adds", "dense multiply-adds", "state dict bytes", ".onnx bytes",
)  # fmt: skip
LEFT = 6


@dataclass(frozen=True)
class Row:
    """One layer: counts of numbers, multiply-adds of one row, step or position, and bytes."""

    layer: str
    paper: str
    size: str
    ops: tuple[str, ...]
    claim: str
    recipe: str
    numbers: int
    dense_numbers: int
    multiply_adds: int
    dense_multiply_adds: int
    state_bytes: int
    file_bytes: int


def rows() -> list[Row]:
    """Every entry of the catalogue, exported one by one."""
    with temporary.folder("edgefc-layers-") as folder:
        return [_row(entry, folder) for entry in Bar(entries(), desc="exporting", unit="layer")]


def cells(row: Row) -> tuple[str, ...]:
    """A row in words, in the order of COLUMNS."""
    counts = (
        row.numbers, row.dense_numbers, row.multiply_adds, row.dense_multiply_adds, row.state_bytes, row.file_bytes
    )  # fmt: skip
    ops = ", ".join(row.ops) or "standard operators"
    return row.layer, row.paper, row.size, ops, row.claim, row.recipe or "-", *(f"{count:,}" for count in counts)


def _row(entry: Entry, folder: Path) -> Row:
    torch.manual_seed(0)
    layer, dense, x = entry.make(entry.width), entry.dense(entry.width), entry.example(entry.width)
    file = folder / "layer.onnx"
    report = export(Called(entry, layer), x, file, verify=False)
    return Row(
        layer=entry.name,
        paper=entry.paper,
        size=entry.size,
        ops=tuple(sorted({found.op for found in inspect(file).layers})),
        claim=entry.claim,
        recipe=f"{entry.recipe}: {summary(entry.recipe)}" if entry.recipe else "",
        numbers=_numbers(layer),
        dense_numbers=_numbers(dense),
        multiply_adds=layer.multiply_adds(),
        dense_multiply_adds=_dense_multiply_adds(dense),
        state_bytes=sum(tensor.nbytes for tensor in layer.state_dict().values()),
        file_bytes=report.file_bytes + report.data_bytes,
    )


def _numbers(layer: Any) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())


def _dense_multiply_adds(dense: nn.Module) -> int:
    """Each number of a matrix or kernel is used once a row, step or position; a row of an embedding is looked up."""
    if isinstance(dense, nn.Embedding):
        return 0
    return sum(parameter.numel() for parameter in dense.parameters() if parameter.ndim > 1)
