"""Compares the costs of each file of a record with those of the first file.

A difference is reported only under these conditions:

latency       the 95 % interval of the ratio, measured in the same rounds, does not contain 1
load time     every launch of one file was faster than every launch of the other
peak memory   the difference is larger than the spread of the peaks of the null model
file size     the sizes are not equal; they are exact
vectors       their mean cosine to those of the original differs from 1 by more than rounding errors
"""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Literal, NamedTuple

from edgefc.demo.likeness import Likeness
from edgefc.runtime import Record
from edgefc.runtime.profiling.parts import Cell, Speed
from edgefc.runtime.profiling.table import bytes_text, name_of, time_text

Verdict = Literal["better", "worse", "undecided"]


_ROUNDING = 1e-5
"""Of a cosine of float32 vectors."""


class Cost(NamedTuple):
    """The comparison of one quantity of a file with that of the first file, and its figures."""

    quantity: str
    verdict: Verdict
    figures: str


def sentences(record: Record, found: Sequence[Likeness]) -> list[str]:
    """One sentence for each file except the first. `found` has the likeness of each file."""
    return [_sentence(record, model, found[model]) for model in range(1, len(record.models))]


def costs(record: Record, model: int, own_likeness: Likeness) -> list[Cost]:
    """The comparisons of the file with index `model` with the first file, which is the original model."""
    own, first = (record.models[each].all_bytes for each in (model, 0))
    ratio = f"{first / own:.3g} times smaller" if own < first else f"{own / first:.3g} times as large"
    changed: Verdict = "worse" if own_likeness.cosine < 1 - _ROUNDING else "undecided"
    return [
        Cost("vectors", changed, f"mean cosine {own_likeness.cosine:.4f}"),
        *(_latency(speed) for speed in record.speeds if speed.model == model),
        _load(_launches(record, model), _launches(record, 0)),
        *_memory(record, _cells(record, model)[0], _cells(record, 0)[0]),
        Cost("file size", _verdict(own - first, own - first), ratio),
    ]


def _sentence(record: Record, model: int, own: Likeness) -> str:
    phrases: dict[Verdict, str] = {"worse": "worse in", "better": "better in", "undecided": "no difference shown in"}
    compared = costs(record, model, own)
    parts = []
    for verdict, words in phrases.items():
        if which := [f"{cost.quantity} ({cost.figures})" for cost in compared if cost.verdict == verdict]:
            parts.append(f"{words} {', '.join(which)}")
    return f"{name_of(record, model)} against {name_of(record, 0)}: {'; '.join(parts)}."


def _latency(speed: Speed) -> Cost:
    quantity = f"latency at batch {speed.batch}"
    if speed.low is None or speed.high is None:
        return Cost(quantity, "undecided", "too few rounds")
    figures = f"{speed.median:.3g} times as fast, {speed.low:.3g} to {speed.high:.3g}"
    return Cost(quantity, _verdict(1 - speed.high, 1 - speed.low), figures)


def _load(own: list[int], first: list[int]) -> Cost:
    figures = f"{time_text(median(own))} against {time_text(median(first))}"
    if min(len(own), len(first)) < 2:
        return Cost("load time", "undecided", f"{figures}, one launch")
    return Cost("load time", _verdict(min(own) - max(first), max(own) - min(first)), figures)


def _memory(record: Record, own: Cell, first: Cell) -> Iterator[Cost]:
    peaks = [memory.peak_bytes for baseline in record.baselines for memory in baseline.memory]
    if own.peak_above_baseline_bytes is None or first.peak_above_baseline_bytes is None or not peaks:
        return
    excess, noise = own.peak_above_baseline_bytes - first.peak_above_baseline_bytes, max(peaks) - min(peaks)
    figures = f"{bytes_text(own.peak_above_baseline_bytes)} against {bytes_text(first.peak_above_baseline_bytes)}"
    yield Cost("peak memory", _verdict(excess - noise, excess + noise), figures)


def _cells(record: Record, model: int) -> list[Cell]:
    return [cell for cell in record.cells if cell.model == model]


def _launches(record: Record, model: int) -> list[int]:
    """The load times of all launches, at all batch sizes. The batch size does not affect them."""
    return [ns for cell in _cells(record, model) for ns in cell.load.samples_ns]


def _verdict(low: float, high: float) -> Verdict:
    """The verdict for an interval of (value - value of the first file), where a smaller value is better."""
    return "worse" if low > 0 else "better" if high < 0 else "undecided"
