"""demo(): train, export, measure, report; everything in one folder.

demo.json             marks the folder as the demo's, so that another is never written into
trained/              finished trainings (kept.py)
KIND.safetensors      weights of the exported seed
*.onnx                the four files: dense, circulant, and PRP with each of its bodies
record.json           what edgefc.runtime.profile measured, every sample
results.json          what the demo found (results.py)
table.md              the table and its notes
accuracy-size.png     with matplotlib only
"""

import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

import edgefc
from edgefc import files
from edgefc.demo import kept, report
from edgefc.demo.data import digits
from edgefc.demo.findings import sentences
from edgefc.demo.models import EXPORTED_SEED, KINDS, example_digits, numbers
from edgefc.demo.results import SCHEMA_VERSION, File, Latency, Recipe, Results, Training
from edgefc.demo.train import RECIPE, train
from edgefc.export import export
from edgefc.files import write_text
from edgefc.progress import Bar
from edgefc.runtime import Record, profile
from edgefc.runtime.profiling.parts import Cell
from edgefc.screen import err, out

BATCHES = (1, 64)
MEASURING: dict[str, Any] = {"min_time_s": 1.0}
_MARK = "demo.json"


class _File(NamedTuple):
    """A file to export: its name without .onnx, the kind of layer, and the body of PRP layers."""

    name: str
    kind: str
    prp: Any = "auto"


FILES = (
    _File("dense", "dense"),
    _File("circulant", "circulant"),
    _File("prp-resident", "prp", "resident"),
    _File("prp-streaming", "prp", "streaming"),
)


def demo(folder: Path, seeds: int) -> Results:
    """Do whatever the folder does not hold yet, measure anew, print and write the results.

    Raises:
        UsageError: the folder holds something else, or cannot be written.
    """
    claim(folder)
    versions = {name: version(name) for name in ("torch", "scikit-learn")} | {"edgefc": edgefc.__version__}
    fingerprint = kept.fingerprint(RECIPE, versions)
    models, trainings = trained(folder, seeds, RECIPE, fingerprint)
    _exported(folder, models)
    record = _measured(folder)
    results = Results(
        schema_version=SCHEMA_VERSION, recipe=RECIPE, fingerprint=fingerprint, exported_seed=EXPORTED_SEED,
        versions=versions, environment=record.environment, trainings=tuple(trainings),
        memory_noise_bytes=_memory_noise(record), files=tuple(_files(record, models)), sentences=(),
    )  # fmt: skip
    results = results.model_copy(update={"sentences": sentences(results)})
    report.show(results)  # before anything is written, which a full disk refuses
    record.write(folder / "record.json")
    write_text(folder / "results.json", results.model_dump_json(indent=2) + "\n")
    write_text(folder / "table.md", report.markdown(results))
    out(report.plot(results, folder))
    return results


def claim(folder: Path) -> None:
    """Make the folder, or go on in one that an earlier demo made; UsageError where it is neither."""
    files.claim(folder, _MARK, "edgefc demo")


def trained(folder: Path, seeds: int, recipe: Recipe, fingerprint: str) -> tuple[dict[str, nn.Module], list[Training]]:
    """The models of the exported seed, and all results; the seed runs slowest, so early seeds are whole."""
    models, trainings = {}, []
    taken, started = 0, time.perf_counter()
    with Bar(total=seeds * len(KINDS) * recipe.epochs, desc="training", unit="epoch") as bar:
        try:
            for seed in range(seeds):
                split = digits(seed)
                for kind in KINDS:
                    bar.set_postfix_str(f"{kind}, seed {seed}")
                    found = kept.take_up(folder, kind, seed, recipe, fingerprint, split)
                    if found is not None:
                        taken += 1
                        bar.update(recipe.epochs)
                    else:
                        found = train(kind, seed, recipe, split, bar.update)
                        kept.keep(folder, *found, fingerprint)
                    trainings.append(found[1])
                    if seed == EXPORTED_SEED:
                        models[kind] = found[0]
        except KeyboardInterrupt:
            err(f"{len(trainings)} trainings are kept in {folder}; the same command goes on from there")
            raise
    again = f"; {taken} of them earlier, and taken up from {folder}" if taken else ""
    err(f"trained {len(trainings)} models in {time.perf_counter() - started:.0f} s{again}")
    return models, trainings


def _exported(folder: Path, models: dict[str, nn.Module]) -> None:
    """Weights and .onnx files; export() runs each file against its model before it takes its place."""
    started = time.perf_counter()
    for kind, model in models.items():
        kept.write(folder / f"{kind}.safetensors", model)
    for file in Bar(FILES, desc="exporting", unit="file"):
        export(models[file.kind], example_digits(), folder / f"{file.name}.onnx", bodies={"PRPLinear": file.prp})
    err(f"exported and verified {len(FILES)} files in {time.perf_counter() - started:.0f} s")


def _measured(folder: Path) -> Record:
    """All files in one call, so that they take turns; measured anew each time."""
    started = time.perf_counter()
    record = profile(
        [folder / f"{file.name}.onnx" for file in FILES], batch=BATCHES, threads=1, native="off", **MEASURING
    )
    err(f"measured load, memory and latency in {time.perf_counter() - started:.0f} s")
    return record


def _files(record: Record, models: dict[str, nn.Module]) -> Iterator[File]:
    for index, (file, measured) in enumerate(zip(FILES, record.models, strict=True)):
        cells = [cell for cell in record.cells if cell.model == index]
        yield File(
            name=file.name,
            kind=file.kind,
            file=f"{file.name}.onnx",
            numbers=numbers(models[file.kind]),
            file_bytes=measured.all_bytes,
            load_ns=tuple(ns for cell in cells for ns in cell.load.samples_ns),  # the batch size does not matter to it
            peak_bytes=cells[0].peak_above_baseline_bytes,
            latencies=tuple(_latency(record, cell) for cell in cells),
            warnings=tuple(f"batch {cell.batch}, {warning}" for cell in cells for warning in cell.warnings),
        )


def _latency(record: Record, cell: Cell) -> Latency:
    found = [speed for speed in record.speeds if (speed.model, speed.batch) == (cell.model, cell.batch)]
    if not found:  # dense itself
        return Latency(batch=cell.batch, median_ns=cell.steady.median_ns, speed=None, low=None, high=None)
    speed = found[0]
    return Latency(
        batch=cell.batch, median_ns=cell.steady.median_ns, speed=speed.median, low=speed.low, high=speed.high
    )


def _memory_noise(record: Record) -> int | None:
    peaks = [memory.peak_bytes for baseline in record.baselines for memory in baseline.memory]
    return max(peaks) - min(peaks) if peaks else None
