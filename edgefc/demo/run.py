"""demo(): trains, exports and measures. All results are written to one folder:

recipe.json, trained/, KIND.safetensors, summary.json, table.md, plot.png    from the recipe (recipes/harness.py)
*.onnx        four files: dense, circulant, and PRP with each of its bodies
record.json   the measurements of edgefc.runtime.profile with every sample
costs.md      sentences that compare the costs of the files with those of dense.onnx
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

from edgefc.demo.costs import sentences
from edgefc.export import export
from edgefc.files import write_text
from edgefc.progress import Bar
from edgefc.recipes import harness
from edgefc.recipes.digits_mlp import RECIPE
from edgefc.runtime import profile
from edgefc.runtime.profiling import table
from edgefc.screen import err, out

BATCHES = (1, 64)
MEASURING: dict[str, Any] = {"min_time_s": 1.0}


class _File(NamedTuple):
    """A file to export: its name without .onnx, the arm of the recipe, and the body of PRP layers."""

    name: str
    arm: str
    prp: Any = "auto"


FILES = (
    _File("dense", "dense"),
    _File("circulant", "circulant"),
    _File("prp-resident", "prp", "resident"),
    _File("prp-streaming", "prp", "streaming"),
)


def demo(folder: Path, seeds: int) -> None:
    """Train the models that the folder does not have yet, export and measure all, print and write the results.

    Raises:
        UsageError: the folder has other contents, or cannot be written.
        CheckFailed: the result of a training is not finite, or a file does not compute what its model computes.
    """
    harness.run(RECIPE, folder, seeds, command="edgefc demo")
    _export(folder)
    started = time.perf_counter()
    paths = [folder / f"{file.name}.onnx" for file in FILES]  # in one call, so that they take turns
    record = profile(paths, batch=BATCHES, threads=1, native="off", **MEASURING)
    err(f"measured load, memory and latency in {time.perf_counter() - started:.0f} s")
    comparisons = sentences(record)
    out()
    table.show(record)  # before writing, which fails on a full disk
    out("", *comparisons)
    record.write(folder / "record.json")
    write_text(folder / "costs.md", "".join(f"- {sentence}\n" for sentence in comparisons))


def _export(folder: Path) -> None:
    """Export each file. export() compares it with its model before it writes the file."""
    started = time.perf_counter()
    assert RECIPE.example is not None
    models, x = harness.trained(RECIPE, folder), RECIPE.example(RECIPE.load(None))
    for file in Bar(FILES, desc="exporting", unit="file"):
        export(models[file.arm], x, folder / f"{file.name}.onnx", bodies={"PRPLinear": file.prp})
    err(f"exported and verified {len(FILES)} files in {time.perf_counter() - started:.0f} s")
