"""The figures of the catalogue: every layer is built, counted and exported."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from edgefc import temporary
from edgefc.catalogue import Called, Entry, entries
from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from edgefc.layers.common.stored import stored_numbers
from edgefc.progress import Bar
from edgefc.recipes.measured import summary

COLUMNS = (
    "layer", "paper", "size", "op", "paper's claim", "recipe",
    "numbers", "dense numbers", "multiply-adds", "dense multiply-adds", "state dict bytes", ".onnx bytes",
)  # fmt: skip
LEFT = 6


@dataclass(frozen=True)
class Row:
    """One layer: number of stored weights, multiply-adds for one row, step or position, and bytes."""

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
    """The rows of all entries. Every entry is exported, which takes some seconds."""
    with temporary.folder("edgefc-layers-") as folder:
        return [_row(entry, folder) for entry in Bar(entries(), desc="exporting", unit="layer")]


def cells(row: Row) -> tuple[str, ...]:
    """The text of a row, in the order of COLUMNS."""
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
        ops=tuple(sorted({each.op for each in inspect(file).layers})),
        claim=entry.claim,
        recipe=f"{entry.recipe}: {summary(entry.recipe)}" if entry.recipe else "",
        numbers=stored_numbers(layer),
        dense_numbers=stored_numbers(dense),
        multiply_adds=layer.multiply_adds(),
        dense_multiply_adds=_dense_multiply_adds(dense),
        state_bytes=sum(tensor.nbytes for tensor in layer.state_dict().values()),
        file_bytes=report.file_bytes + report.data_bytes,
    )


def _dense_multiply_adds(dense: nn.Module) -> int:
    """Each element of a matrix or kernel is used once per row, step or position. Embeddings need no arithmetic."""
    if isinstance(dense, nn.Embedding):
        return 0
    return sum(parameter.numel() for parameter in dense.parameters() if parameter.ndim > 1)
