"""What the demo says of given figures: no more and no less than they carry."""

from typing import Any

import pytest

pytest.importorskip("sklearn")

from edgefc.demo import report
from edgefc.demo.findings import difference, findings, sentences
from edgefc.demo.results import File, Latency, Recipe, Results, Training
from edgefc.runtime.probes import machine
from edgefc.runtime.profiling.parts import Environment

DENSE = [490, 491, 489, 490, 490]


def make(
    structured: list[int] = DENSE, *, dense: list[int] = DENSE, warnings: tuple[str, ...] = (), **file: Any
) -> Results:
    """Results with one structured file; what is not given is dense's own."""
    one = {
        "numbers": 1000, "file_bytes": 4000, "load_ns": (10_000_000, 11_000_000, 12_000_000), "peak_bytes": 5_000_000,
        "latencies": (_latency(None, None, None),), "warnings": warnings,
    }  # fmt: skip
    other = {**one, "latencies": (_latency(1.0, 0.9, 1.1),), **file}
    trained = [("dense", dense), ("circulant", structured)]
    return Results(
        schema_version=3,
        recipe=Recipe(width=8, epochs=15, rows_per_step=128, rates={"dense": 0.01, "circulant": 0.003}),
        fingerprint="f",
        exported_seed=0,
        versions={"torch": "2.13.0"},
        environment=Environment(**machine.environment()),
        trainings=tuple(
            Training(kind=kind, seed=seed, right=right, rows=500, seconds=1.0)
            for kind, rights in trained
            for seed, right in enumerate(rights)
        ),
        memory_noise_bytes=100_000,
        files=(
            File(name="dense", kind="dense", file="dense.onnx", **one),
            File(name="circulant", kind="circulant", file="circulant.onnx", **other),
        ),
        sentences=(),
    )


def _latency(speed: float | None, low: float | None, high: float | None) -> Latency:
    return Latency(batch=1, median_ns=20_000.0, speed=speed, low=low, high=high)


CASES = [  # quantity, what the structured file has, verdict
    pytest.param("accuracy", {"structured": [480, 481, 479, 481, 480]}, "loses", id="worse-on-every-seed"),
    pytest.param("accuracy", {"structured": [494, 495, 494, 494, 495]}, "wins", id="better-on-every-seed"),
    pytest.param("accuracy", {"structured": [470, 495, 489, 491, 486]}, "undecided", id="worse-within-the-spread"),
    pytest.param("accuracy", {"structured": [100], "dense": [490]}, "undecided", id="one-seed"),
    pytest.param("latency at batch 1", {"latencies": (_latency(0.5, 0.4, 0.6),)}, "loses", id="slower"),
    pytest.param("latency at batch 1", {"latencies": (_latency(10.0, 9.0, 11.0),)}, "wins", id="faster"),
    pytest.param("latency at batch 1", {"latencies": (_latency(1.1, 0.99, 1.4),)}, "undecided", id="maybe-faster"),
    pytest.param("latency at batch 1", {"latencies": (_latency(10.0, None, None),)}, "undecided", id="few-rounds"),
    pytest.param("load time", {"load_ns": (13_000_000, 14_000_000)}, "loses", id="every-load-slower"),
    pytest.param("load time", {"load_ns": (1_000_000, 9_000_000)}, "wins", id="every-load-faster"),
    pytest.param("load time", {"load_ns": (11_500_000, 90_000_000)}, "undecided", id="loads-overlap"),
    pytest.param("load time", {"load_ns": (90_000_000,)}, "undecided", id="one-load"),
    pytest.param("peak memory", {"peak_bytes": 5_200_000}, "loses", id="more-memory"),
    pytest.param("peak memory", {"peak_bytes": 1_000_000}, "wins", id="less-memory"),
    pytest.param("peak memory", {"peak_bytes": 5_090_000}, "undecided", id="memory-within-noise"),
    pytest.param("numbers stored", {"numbers": 10}, "wins", id="fewer-numbers"),
    pytest.param("file size", {"file_bytes": 4001}, "loses", id="one-byte-more"),
]


@pytest.mark.parametrize(("quantity", "given", "verdict"), CASES)
def test_a_verdict_needs_what_carries_it(quantity: str, given: dict[str, Any], verdict: str) -> None:
    results = make(**given)
    found = {finding.quantity: finding for finding in findings(results, results.files[1])}
    said = {"loses": "loses to dense in", "wins": "It wins in", "undecided": "No difference could be shown in"}

    assert found[quantity].verdict == verdict
    [sentence] = [part for part in _parts(sentences(results)[0]) if f"{quantity} (" in part]
    assert said[verdict] in sentence


def test_the_difference_is_students_paired_interval() -> None:
    """Gaps of -1, 0, 1, 2 and 3 digits of 500: mean 0.2 points, s 0.3162, t 2.776, half width 0.3926."""
    gap = difference(make([489, 491, 490, 492, 493]), "circulant")

    assert gap.mean == pytest.approx(0.2)
    assert (gap.low, gap.high) == (pytest.approx(-0.19263, abs=1e-4), pytest.approx(0.59263, abs=1e-4))


def test_seeds_are_paired_whatever_the_order_of_the_trainings() -> None:
    results = make([480, 482, 484, 486, 488], dense=[490, 492, 494, 496, 498])
    turned = results.model_copy(update={"trainings": results.trainings[::-1]})

    assert difference(results, "circulant") == difference(turned, "circulant")
    assert difference(turned, "circulant").low == pytest.approx(-2.0)


def test_a_file_that_loses_everything_and_one_that_wins_everything() -> None:
    worse = make([400] * 5, numbers=2000, file_bytes=8000, load_ns=(90_000_000, 91_000_000), peak_bytes=9_000_000,
                 latencies=(_latency(0.33, 0.32, 0.34),))  # fmt: skip
    better = make([500] * 5, numbers=10, file_bytes=80, load_ns=(1_000_000, 1_000_001), peak_bytes=9_000,
                  latencies=(_latency(3.3, 2.5, 5.0),))  # fmt: skip

    assert "wins" not in sentences(worse)[0]
    assert "No difference" not in sentences(worse)[0]
    assert sentences(better)[0].startswith(
        "circulant loses to dense in nothing that could be shown. It wins in accuracy"
    )


def test_the_sentences_carry_their_conditions() -> None:
    text = " ".join(sentences(make()))

    for word in ("5 seeds", "15 epochs", "circulant 0.003", "one thread", "onnxruntime", "torch 2.13.0", "seed 0"):
        assert word in text


def test_memory_that_could_not_be_had_is_not_talked_about() -> None:
    results = make(peak_bytes=None)

    assert "memory" not in sentences(results)[0]
    assert "-" in report.rows(results)[1]


def test_the_table_has_mean_and_sample_deviation_and_marks_doubts() -> None:
    """489 to 491 of 500: 98.00 %, s = 0.1414 points."""
    results = make(warnings=("batch 1, the clock steps",))

    assert report.rows(results)[0][:2] == ("dense*", "98.00 ± 0.14")
    assert report.rows(results)[1][-1] == "20.0 (1x)"
    assert report.accuracy_text([98.0]) == "98.00"
    assert "* dense, circulant: batch 1, the clock steps" in report.notes(results)
    assert "dense\\*" in report.markdown(results)


def test_without_matplotlib_one_line_says_so(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)

    assert "matplotlib is not installed" in report.plot(make(), tmp_path)
    assert not list(tmp_path.iterdir())


def _parts(text: str) -> list[str]:
    """The sentences of one paragraph."""
    return text.replace(" It wins", "\n It wins").replace(" No difference", "\n No difference").split("\n")
