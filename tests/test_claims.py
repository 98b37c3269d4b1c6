"""What the documentation claims about size and memory, at full size. Timings are in tests/bench/, never here."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

import edgefc
from edgefc.export import export
from edgefc.runtime import Record, profile
from edgefc.runtime.profiling.parts import Cell

pytestmark = pytest.mark.slow

N = 4096
BENCH = Path(__file__).parent / "bench"


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Record:
    """The dense layer and both PRP bodies of every distribution."""
    folder = tmp_path_factory.mktemp("prp")
    models = {"dense": (nn.Linear(N, N), {})}
    for distribution in ("rademacher", "gaussian", "ternary"):
        for body in ("resident", "streaming"):
            models[f"{distribution}-{body}"] = (
                edgefc.PRPLinear(N, N, distribution=distribution),
                {"bodies": {"PRPLinear": body}},
            )
    for name, (layer, options) in models.items():
        report = export(layer, torch.randn(2, N), folder / f"{name}.onnx", verify=False, **options)
        assert name == "dense" or report.file_bytes + report.data_bytes <= 64 * 1024, name
    return profile(
        [folder / f"{name}.onnx" for name in models], min_time_s=0.02, processes=1, rounds=1, launches=1, native="off"
    )


def cell(record: Record, name: str) -> Cell:
    (found,) = [cell for cell in record.cells if record.models[cell.model].name == f"{name}.onnx"]
    return found


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian", "ternary"])
def test_the_streaming_body_stays_within_16_megabytes(record, distribution) -> None:
    """Above what the runtime needs for a model that does nothing."""
    assert cell(record, f"{distribution}-streaming").peak_above_baseline_bytes <= 16_000_000


@pytest.mark.parametrize(("distribution", "times"), [("rademacher", 1.6), ("gaussian", 1.75), ("ternary", 2.3)])
def test_the_resident_body_stays_near_the_dense_layer(record, distribution, times) -> None:
    """The peak of the process, as export/README.md has it, and room for what the allocator keeps from run to run."""
    peak, dense = (cell(record, name).memory.peak_bytes for name in (f"{distribution}-resident", "dense"))

    assert peak <= times * dense


def test_the_peak_of_the_dense_layer_holds_its_weights(record) -> None:
    """The yardstick itself: 64 MiB of weights and the copy that is packed."""
    assert cell(record, "dense").peak_above_baseline_bytes >= 4 * N * N


def test_a_deep_stack_is_two_megabytes_where_dense_is_six_hundred(tmp_path) -> None:
    """24 layers of width 1024, exported and verified."""
    spec = importlib.util.spec_from_file_location("bench_stack", BENCH / "stack.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)

    report = export(bench.stack(24, 1024), torch.randn(2, bench.TOKENS, 1024), tmp_path / "stack.onnx")

    assert report.verified.holds
    assert len(report.layers) == 24 * 6
    assert report.file_bytes + report.data_bytes < 2_000_000
    assert bench.dense_bytes(24, 1024) > 600_000_000
