"""Choices of the exporter that lowerings read."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Options:
    """Which body each op gets: one per file, since a file holds one function per op."""

    circulant: Literal["matmul", "dft"] = "matmul"
    prp: Literal["resident", "streaming"] = "resident"
