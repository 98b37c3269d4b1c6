"""Memory of a process of its own: a bound on a real model, and numbers that cannot be."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from edgefc.runtime.inputs import Wanted
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes import memory
from edgefc.runtime.probes.child import ask
from edgefc.runtime.probes.contracts import Memory, MemoryAnswer, MemoryQuestion, ModelToRun, Stage
from edgefc.runtime.probes.null_model import null_model
from tests.support import onnx_models as models

WEIGHT_BYTES = 64 << 20
MIB = 1 << 20
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def question(path: Path) -> MemoryQuestion:
    return MemoryQuestion(ModelToRun(str(path), SessionOptions()), Wanted(batch=1))


def measure(path: Path) -> Memory:
    found = ask(question(path), about=str(path)).memory
    assert found is not None
    return found


@pytest.mark.slow
@linux
def test_weights_of_64_mib_are_seen(tmp_path: Path) -> None:
    """At least the weights above the null model, and at most four copies of them: a bound, not a timing."""
    (tmp_path / "null.onnx").write_bytes(null_model())
    null = measure(tmp_path / "null.onnx")
    large = measure(models.matmul(tmp_path / "large.onnx", 4096, 4096))

    above = large.peak_bytes - null.peak_bytes
    assert WEIGHT_BYTES <= above <= 4 * WEIGHT_BYTES
    assert large.loaded.anonymous_bytes - large.imported.anonymous_bytes >= WEIGHT_BYTES
    assert abs(large.imported.anonymous_bytes - null.imported.anonymous_bytes) < 4 * MIB


def test_the_null_model_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "null.onnx").write_bytes(null_model())
    session = ort.InferenceSession(str(tmp_path / "null.onnx"), providers=["CPUExecutionProvider"])
    x = np.ones((3, 4), np.float32)

    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x)


def stages(*, peak: int, held: int = 50 * MIB) -> Memory:
    stage = Stage(held // 2, held // 2)
    return Memory(stage, stage, stage, peak_bytes=peak, peak_reset=True, swapped_bytes=0)


def test_possible_numbers_pass() -> None:
    assert memory.checked(stages(peak=51 * MIB)) == MemoryAnswer(stages(peak=51 * MIB), None)


@pytest.mark.parametrize("found", [stages(peak=40 * MIB), stages(peak=0), stages(peak=1, held=0)], ids=range(3))
def test_impossible_numbers_are_refused(found: Memory) -> None:
    assert "the kernel reported" in (memory.checked(found).missing or "")


def test_elsewhere_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STATUS", Path("/nowhere/status"))

    assert "memory is read from /proc/self/status, which this system does not have" in (
        memory.measure(question(Path("m.onnx"))).missing or ""
    )
