"""Shared code of the benchmarks: export layers to a temporary folder, measure them in one run, print one table."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from edgefc.export import export
from edgefc.runtime import Record


def numbers(text: str) -> list[int]:
    """Parse a list such as '384,768'."""
    return [int(part) for part in text.split(",")]


def arguments(description: str, *, n: str, batch: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=numbers, default=n, help=f"widths, n inputs and n outputs (default: {n})")
    parser.add_argument("--batch", type=numbers, default=batch, help=f"rows at a time (default: {batch})")
    parser.add_argument("--threads", type=int, default=1, help="(default: 1)")
    parser.add_argument("--time", type=float, default=1.0, help="seconds of timing for each figure (default: 1)")
    parser.add_argument("--json", type=Path, help="write the records of every run here")
    return parser


@contextmanager
def exported(
    layers: Mapping[str, nn.Module], width: int | Sequence[int], **options: Mapping[str, object]
) -> Iterator[list[Path]]:
    """Export each layer to an .onnx file. options[name] are keyword arguments of export(). An input is a width or a
    shape."""
    shape = (width,) if isinstance(width, int) else tuple(width)
    with TemporaryDirectory() as folder:
        paths = []
        for name, layer in layers.items():
            paths.append(Path(folder) / f"{name}.onnx")
            export(layer, torch.randn(2, *shape), paths[-1], **options.get(name, {}))
        yield paths


def conditions(record: Record) -> str:
    """The conditions of a record in one line."""
    env = record.environment
    return (
        f"{env.machine}, {env.cpu}, {env.cores} cores; onnxruntime {env.onnxruntime}, torch {torch.__version__}, "
        f"numpy {env.numpy}, Python {env.python}; float32, medians; ratios are dense over the layer, in one run"
    )


def medians_us(record: Record, batch: int) -> list[float]:
    """The median of each model at one batch size, us, in the order of the models."""
    cells = {cell.model: cell for cell in record.cells if cell.batch == batch}
    return [cells[index].steady.median_ns / 1e3 for index in sorted(cells)]


def warnings(records: Sequence[Record]) -> str:
    """The number of figures with a warning of the measurement, and the first reason."""
    cells = [(record.models[cell.model].name, cell) for record in records for cell in record.cells]
    said = [f"{name}, batch {cell.batch}: {warning}" for name, cell in cells for warning in cell.warnings[:1]]
    first = f"; the first: {said[0]}" if said else ""
    return f"figures unreliable: {len(said)} of {len(cells)}{first}"
