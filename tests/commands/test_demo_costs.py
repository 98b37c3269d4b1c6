"""What the demo says of the costs in given records: no more and no less than they carry."""

from types import SimpleNamespace
from typing import Any

import pytest

from edgefc.demo.costs import costs, sentences
from edgefc.demo.likeness import Likeness

SAME = Likeness(1.0, 1.0)


def record(*, noise: tuple[int, ...] = (63_000_000, 63_100_000), **own: Any) -> Any:
    """Two files, dense and circulant; what is not given of the second is dense's own."""
    dense = {"file_bytes": 4000, "load_ns": (10_000_000, 11_000_000, 12_000_000), "peak": 5_000_000}
    files = [dense, {**dense, **own}]
    low, high = own.get("speed", (0.9, 1.1))
    return SimpleNamespace(
        config=SimpleNamespace(model_settings=({}, {})),
        models=[SimpleNamespace(name=f"{name}.onnx", all_bytes=file["file_bytes"])
                for name, file in zip(("dense", "circulant"), files, strict=True)],
        cells=[SimpleNamespace(model=i, batch=1, load=SimpleNamespace(samples_ns=file["load_ns"]),
                               peak_above_baseline_bytes=file["peak"]) for i, file in enumerate(files)],
        speeds=[SimpleNamespace(model=1, batch=1, median=1.0, low=low, high=high)],
        baselines=[SimpleNamespace(memory=[SimpleNamespace(peak_bytes=peak) for peak in noise])],
    )  # fmt: skip


CASES = [  # quantity, what the second file has, verdict
    pytest.param("latency at batch 1", {"speed": (0.4, 0.6)}, "worse", id="slower"),
    pytest.param("latency at batch 1", {"speed": (9.0, 11.0)}, "better", id="faster"),
    pytest.param("latency at batch 1", {"speed": (0.99, 1.4)}, "undecided", id="maybe-faster"),
    pytest.param("latency at batch 1", {"speed": (None, None)}, "undecided", id="few-rounds"),
    pytest.param("load time", {"load_ns": (13_000_000, 14_000_000)}, "worse", id="every-load-slower"),
    pytest.param("load time", {"load_ns": (1_000_000, 9_000_000)}, "better", id="every-load-faster"),
    pytest.param("load time", {"load_ns": (11_500_000, 90_000_000)}, "undecided", id="loads-overlap"),
    pytest.param("load time", {"load_ns": (90_000_000,)}, "undecided", id="one-load"),
    pytest.param("peak memory", {"peak": 5_200_000}, "worse", id="more-memory"),
    pytest.param("peak memory", {"peak": 1_000_000}, "better", id="less-memory"),
    pytest.param("peak memory", {"peak": 5_090_000}, "undecided", id="memory-within-noise"),
    pytest.param("file size", {"file_bytes": 4001}, "worse", id="one-byte-more"),
    pytest.param("file size", {"file_bytes": 40}, "better", id="smaller"),
    pytest.param("file size", {}, "undecided", id="as-large"),
]


@pytest.mark.parametrize(("quantity", "given", "verdict"), CASES)
def test_a_verdict_needs_what_carries_it(quantity: str, given: dict[str, Any], verdict: str) -> None:
    found = {cost.quantity: cost for cost in costs(record(**given), 1, SAME)}
    words = {"worse": "worse in", "better": "better in", "undecided": "no difference shown in"}

    assert found[quantity].verdict == verdict
    [sentence] = sentences(record(**given), [SAME, SAME])
    [part] = [part for part in sentence.rstrip(".").split("; ") if quantity in part]
    assert f"{words[verdict]} " in part


def test_a_file_that_is_worse_in_everything_and_one_that_is_better() -> None:
    slow = record(speed=(0.3, 0.4), load_ns=(90_000_000, 91_000_000), peak=9_000_000, file_bytes=8000)
    fast = record(speed=(3.0, 4.0), load_ns=(1_000_000, 1_000_001), peak=9_000, file_bytes=400)
    [worse] = sentences(slow, [SAME, Likeness(0.9, 0.5)])
    [better] = sentences(fast, [SAME, SAME])

    assert worse.startswith(
        "circulant.onnx against dense.onnx: worse in vectors (mean cosine 0.9000), latency at batch"
    )
    assert "better in" not in worse and "differ" not in worse
    assert "8000" not in worse and "file size (2 times as large)" in worse
    assert "worse in" not in better and "file size (10 times smaller)" in better
    assert better.endswith("; no difference shown in vectors (mean cosine 1.0000).")


@pytest.mark.parametrize("missing", [{"peak": None}, {"noise": ()}])
def test_memory_that_was_not_measured_is_left_out(missing: dict[str, Any]) -> None:
    assert "memory" not in sentences(record(**missing), [SAME, SAME])[0]


@pytest.mark.parametrize(("cosine", "verdict"), [(0.98765, "worse"), (0.999999, "undecided")])
def test_other_vectors_are_worse(cosine: float, verdict: str) -> None:
    found = costs(record(), 1, Likeness(cosine, 1.0))[0]

    assert (found.quantity, found.verdict) == ("vectors", verdict)
    assert found.figures == f"mean cosine {cosine:.4f}"
