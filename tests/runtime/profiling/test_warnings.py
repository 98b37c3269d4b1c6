"""Each warning is raised by what it warns of, and by nothing else."""

from typing import Any

import pytest

from edgefc.runtime.profiling import warnings
from edgefc.runtime.profiling.parts import Memory, Steady

GOOD: dict[str, Any] = {
    "median_ns": 50_000.0, "p90_ns": 51_000.0, "p99_ns": None, "rel_mad": 0.01, "sample_count": 200,
    "cpu_ns_per_run": 50_000.0, "timer_step_ns": 40, "runs_per_sample": 1, "other_cores": 0.0,
    "warm_ups": ({"runs": 10, "settled": True, "run_ns": 50_000.0},),
    "rounds": ({"process": 0, "samples_ns": (50_000,) * 10, "runs": 10, "wall_ns": 500_000, "cpu_ns": 500_000},) * 20,
}  # fmt: skip
SLOWER = ({**GOOD["rounds"][0], "samples_ns": (60_000,) * 10},) * 10


def test_a_good_measurement_is_not_doubted() -> None:
    assert warnings.of_steady(Steady.of(GOOD), null_ns=1_000) == []


@pytest.mark.parametrize(
    ("changes", "null_ns", "message"),
    [
        pytest.param({"rel_mad": 0.2}, 0, "spread is 20%", id="spread"),
        pytest.param({"rounds": GOOD["rounds"][:10] + SLOWER}, 0, "20% slower than the first", id="drift"),
        pytest.param({"sample_count": 12}, 0, "only 12 samples", id="few"),
        pytest.param(
            {"warm_ups": ({**GOOD["warm_ups"][0], "settled": False},)}, 0, "still falling after 10", id="cold"
        ),
        pytest.param({"timer_step_ns": 5_000}, 0, "clock steps by 5000 ns", id="timer"),
        pytest.param({}, 25_000, "does nothing takes 50%", id="harness"),
        pytest.param({"other_cores": 1.5}, 0, "used 1.5 cores", id="load"),
    ],
)
def test_warnings(changes: dict[str, Any], null_ns: float, message: str) -> None:
    (found,) = warnings.of_steady(Steady.of({**GOOD, **changes}), null_ns)

    assert message in found


def memory(**changes: Any) -> Memory:
    stage = {"anonymous_bytes": 1, "file_bytes": 1}
    good = {"imported": stage, "loaded": stage, "ran": stage, "peak_bytes": 9, "peak_reset": True, "swapped_bytes": 0}
    return Memory.of({**good, **changes})


@pytest.mark.parametrize(
    ("changes", "above", "message"),
    [
        pytest.param({}, 5_000, None, id="good"),
        pytest.param({"peak_reset": False}, 5_000, "includes the import of onnxruntime", id="no reset"),
        pytest.param({"swapped_bytes": 4096}, 5_000, "4096 bytes were swapped", id="swap"),
        pytest.param({}, 20, "below the file's size", id="not read"),
    ],
)
def test_warnings_of_memory(changes: dict[str, Any], above: int, message: str | None) -> None:
    found = warnings.of_memory(memory(**changes), above, noise_bytes=10, file_bytes=4_000)

    assert len(found) == (message is not None)
    assert message is None or message in found[0]
