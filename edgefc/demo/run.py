"""demo(): compresses, exports, verifies and measures. All results are in one folder:

calibration.npz   the sentences for compress, as tokens
work/             the results of compress so far, for a run that goes on after an interruption; may be removed
small/            the compressed model: its plan and its weights
dense.onnx        the original model; large weights are in the file beside it
int8.onnx         all layers in 8 bits, a plain rival
small.onnx        the compressed model
report.json       what compress did; plot.png: quality against size, if matplotlib is installed
record.json       the measurements of edgefc.runtime.profile with every sample
table.md          the table and the sentences
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgefc.choosing.report import CompressReport
from edgefc.compressing.compressing import compress
from edgefc.demo import docstrings, minilm
from edgefc.demo.costs import sentences
from edgefc.demo.likeness import likeness, vectors
from edgefc.demo.table import COLUMNS, captions, markdown, rows
from edgefc.export import export
from edgefc.files import claim, staged, write_text
from edgefc.plan import Configuration, Int3, Int4, Int8
from edgefc.progress import Bar
from edgefc.replacing.calibration import read_batches
from edgefc.replacing.replacing import replace
from edgefc.replacing.saving import load, save
from edgefc.runtime import Record, profile
from edgefc.screen import err, out
from edgefc.tables import print_table

BUDGET = "bytes=0.1428"
"""A seventh. What a layer in 4 bits takes, with its scales."""
CANDIDATES: list[Configuration] = [Int8(), Int4(), Int3()]
CALIBRATION, TEST = 96, 128
"""Numbers of sentences. More of them, and more candidates, take longer."""
FILES = ("dense.onnx", "int8.onnx", "small.onnx")
_BATCH = 16
MEASURING: dict[str, Any] = {"batch": 1, "threads": 1, "min_time_s": 2.0, "processes": 4, "launches": 4}
_TOKENS = 32


def demo(folder: Path) -> None:
    """Do what the folder does not have yet, print the table, and write all results.

    Raises:
        UsageError: the folder has other contents, or cannot be written.
        CheckFailed: a file does not compute what its model computes.
    """
    claim(folder, "demo.json", "edgefc demo")
    with _step("read the model and the sentences"):
        original, example = minilm.make_model()
        calibration, test = docstrings.sentences()
        _write_calibration(folder / "calibration.npz", calibration[:CALIBRATION])
        batches = _batches(test[:TEST])
        with torch.no_grad():
            truth = np.concatenate([original(**batch).numpy() for batch in batches])
    with _step("compressed"):
        report = _compress(folder)
    with _step(f"exported and verified {len(FILES)} files"):
        _export(folder, original, example)
    with _step("measured load, memory and latency"):
        record = _measure(folder)
    arrays = [{name: tensor.numpy() for name, tensor in batch.items()} for batch in batches]
    found = [likeness(truth, vectors(folder / name, arrays)) for name in FILES]
    table, notes = rows(record, found), captions(record, len(truth))
    comparisons = [f"compress: {report.sentence()}", *sentences(record, found)]
    out()
    print_table(COLUMNS, table)  # before writing, which fails on a full disk
    out("", *notes, "", *comparisons)
    record.write(folder / "record.json")
    write_text(folder / "table.md", markdown(table, [*notes, *comparisons]))


def _write_calibration(path: Path, lines: list[str]) -> None:
    """Sorted by length, because compress cuts off the padding that all sentences of a batch share."""
    encoded = minilm.tokens(minilm.tokenizer(), sorted(lines, key=len))
    with staged(path) as file:
        np.savez(file, input_ids=encoded["input_ids"].numpy(), attention_mask=encoded["attention_mask"].numpy())


def _batches(lines: list[str]) -> list[dict[str, Tensor]]:
    tokenize, ordered = minilm.tokenizer(), sorted(lines, key=len)
    return [minilm.tokens(tokenize, ordered[at : at + _BATCH]) for at in range(0, len(ordered), _BATCH)]


def _compress(folder: Path) -> CompressReport:
    """Write the compressed model, the report and its plot. Results in work/ are reused."""
    model, _ = minilm.make_model()
    batches = read_batches(folder / "calibration.npz", model)
    try:
        report = compress(
            model, budget=BUDGET, calibration=batches, candidates=CANDIDATES, folder=folder / "work"
        )  # fmt: skip
    except KeyboardInterrupt:
        err(f"the measured layers are kept in {folder / 'work'}; run the same command again to continue")
        raise
    save(model, folder / "small")
    write_text(folder / "report.json", json.dumps(report.record(), indent=2) + "\n")
    try:
        from edgefc.compressing import picture
    except ImportError:  # matplotlib is optional
        return report
    picture.draw(report, folder / "plot.png")
    return report


def _export(folder: Path, original: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Write FILES. export() compares each with its model before it writes the file."""
    int8, _ = minilm.make_model()
    replace(int8, Int8())
    small = load(folder / "small", lambda: minilm.make_model()[0])
    models = (original, int8, small)
    for name, model in Bar(list(zip(FILES, models, strict=True)), desc="exporting", unit="file"):
        export(model, example, folder / name)


def _measure(folder: Path) -> Record:
    """The files are measured in one call, so that they take turns."""
    names = ("input_ids", "attention_mask")
    return profile(
        [folder / name for name in FILES],
        shapes=dict.fromkeys(names, (None, _TOKENS)),
        ranges={"input_ids": (0, 30521), "attention_mask": (1, 1)},
        **MEASURING,
    )


@contextmanager
def _step(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    err(f"{what} in {time.perf_counter() - started:.0f} s")
