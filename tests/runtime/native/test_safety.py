"""What holds for every op of the native library: sessions that come and go, threads, callers, numbers that are none."""

import gc
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgefc.errors import ModelError
from edgefc.runtime import Session, native
from edgefc.runtime.inputs import Wanted
from edgefc.runtime.native import build
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes.child import ask
from edgefc.runtime.probes.contracts import MemoryQuestion, ModelToRun
from edgefc.runtime.probes.null_model import null_model
from edgefc.testing import assert_close, layer_model, run_onnxruntime
from tests.support import native_models, native_ops
from tests.support.native_models import Array, run, session
from tests.support.native_ops import OPS

N, M = 97, 130
every_op = pytest.mark.parametrize("op", OPS)
linear = pytest.mark.parametrize("op", [name for name, op in OPS.items() if op.infinite])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return native_models.library(tmp_path_factory)


def opened(op: str, library: str, threads: int = 1, n: int = N, m: int = M) -> Any:
    return session(native_ops.model(op, n, m, body=False), library, threads)


def inputs(*shape: int) -> Array:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def at_once(count: int, act: Any) -> list[Any]:
    """What `count` threads get from act(0), act(1), ..."""
    found: list[Any] = [None] * count

    def keep(index: int) -> None:
        found[index] = act(index)

    threads = [threading.Thread(target=keep, args=[index]) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


# ---- sessions


@every_op
def test_runs_of_one_session_at_the_same_time(op: str, library: str) -> None:
    """Of different batches, so that scratch of one size meets runs of another."""
    kernel = opened(op, library, threads=2)
    batches = [inputs(rows, N) for rows in (1, 70, 3, 1, 17, 70)]
    expected = [run(kernel, x) for x in batches]

    for found in at_once(4, lambda _: [run(kernel, x) for x in batches]):
        for y, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(y, wanted)


@every_op
def test_many_sessions_at_once(op: str, library: str) -> None:
    model = native_ops.model(op, N, M, body=False)  # once: drawing its weights in threads would mix them
    x, expected = inputs(3, N), run(session(model, library), inputs(3, N))

    kernels = at_once(8, lambda _: session(model, library))
    for y in at_once(8, lambda index: run(kernels[index], x)):
        np.testing.assert_array_equal(y, expected)


@pytest.mark.slow
@every_op
def test_onnxruntimes_threads_change_no_bit(op: str, library: str) -> None:
    """One row is cut over threads too: 4 million multiply-adds are worth it to every kernel."""
    for rows in (1, 65):
        x = inputs(rows, 2048)
        answers = [run(opened(op, library, threads, 2048, 2048), x) for threads in (1, 2, 4)]
        np.testing.assert_array_equal(answers[1], answers[0])
        np.testing.assert_array_equal(answers[2], answers[0])


CHURN = """
import sys
from pathlib import Path
from tests.support.native_ops import OPS, model
from tests.support.native_models import run, session
from tests.runtime.native.test_safety import inputs
models = [model(op, 300, 400, body=False) for op in OPS]
held = []
for turn in range(80):
    for each in models:
        run(session(each, sys.argv[1], 1 + turn % 2), inputs(20, 300))
    held.append(4096 * int(Path("/proc/self/statm").read_text().split()[1]))
print(held[-1] - held[20])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_sessions_that_come_and_go_leave_nothing(library: str) -> None:
    """60 rounds of a session for each op, of a megabyte or so each: less than two of them stay."""
    grown = subprocess.run([sys.executable, "-c", CHURN, library], check=True, capture_output=True, text=True).stdout

    assert int(grown) < 2 << 20, f"{int(grown) >> 10} KiB"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_a_seeded_matrix_is_never_in_memory(distribution: str, library: str, tmp_path: Path) -> None:
    """PRP 8192 x 8192 would be 256 MB: its session holds within 4 MB of what one of an empty model holds."""
    if Path(library).resolve() != build.HERE / native.NAME:
        pytest.skip("child processes look for the installed library")
    model = native_ops.model("PRPLinear", 8192, 8192, native_ops.BOOKS.index(distribution), body=True)
    (tmp_path / "prp.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "null.onnx").write_bytes(null_model())
    held = {}
    for name in ("null", "prp"):
        path = str(tmp_path / f"{name}.onnx")
        question = MemoryQuestion(ModelToRun(path, SessionOptions(native="on")), Wanted(1))
        found = ask(question, about=path).memory
        assert found is not None
        held[name] = found.ran.held_bytes, found.peak_bytes

    assert max(b - a for a, b in zip(held["null"], held["prp"], strict=True)) < 4 << 20, held


UNLOADED = """
import gc, sys
from tests.support.native_ops import OPS, model
from tests.support.native_models import run, session
from tests.runtime.native.test_safety import inputs
mapped = lambda: sys.argv[1] in open("/proc/self/maps").read()
answers = []
for _ in range(3):
    assert not mapped()
    for op in OPS:
        kernel = session(model(op, 40, 50, body=False), sys.argv[1])  # its options are gone already
        gc.collect()
        assert mapped()
        answers.append(run(kernel, inputs(3, 40)))
        del kernel
        gc.collect()
assert all((a == b).all() for a, b in zip(answers, answers[len(OPS):]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what is loaded is read from /proc")
def test_the_library_goes_with_its_last_session(library: str) -> None:
    """And comes again: registered, used and unloaded several times in one process."""
    path = str(Path(library).resolve())
    done = subprocess.run([sys.executable, "-c", UNLOADED, path], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]


# ---- callers


@every_op
def test_callers_whose_arrays_have_gaps(op: str, library: str) -> None:
    kernel, x = opened(op, library), inputs(5, N)
    wide = np.full((10, N + 7), np.nan, np.float32)
    wide[::2, 3 : N + 3] = x
    expected = run(kernel, x)

    for given in (wide[::2, 3 : N + 3], np.asfortranarray(x), x[::-1][::-1], np.broadcast_to(x, (2, 5, N))[1]):
        np.testing.assert_array_equal(run(kernel, given), expected)


@every_op
def test_any_number_of_axes(op: str, library: str) -> None:
    model = native_ops.model(op, N, M, body=False)
    for end in (*model.graph.input[:1], *model.graph.output):
        end.type.tensor_type.ClearField("shape")
    kernel, x = session(model, library), inputs(12, N)
    expected = run(kernel, x)

    np.testing.assert_allclose(run(kernel, x[0]), expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(run(kernel, x.reshape(2, 3, 2, N)).reshape(12, -1), expected)
    for empty in ((0, N), (2, 0, N), (0, 3, 0, N)):
        assert run(kernel, np.zeros(empty, np.float32)).shape == (*empty[:-1], expected.shape[-1])
    for wrong in ((), (N + 1,), (N, 1), (3, 0)):
        with pytest.raises(Exception, match=rf"edgefc::{op} {native_ops.LAYER}: x has shape \("):
            run(kernel, np.zeros(wrong, np.float32))


@every_op
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_run_by_their_bodies(
    op: str, dtype: torch.dtype, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "library_path", lambda: library)
    x = inputs(3, 24)
    expected = native_ops.layer(op, 24, 20)(torch.from_numpy(x)).detach().numpy()
    model = native_ops.model(op, 24, 20, body=True, dtype=dtype)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())

    by_body = Session(tmp_path / "m.onnx")

    (y,) = by_body.run({"x": x.astype(by_body.inputs[0].dtype)}).values()
    assert by_body.native_variant is None
    assert_close(y, expected, nmse=1e-5 if dtype == torch.float16 else 1e-10, what=op)
    with pytest.raises(ModelError, match=rf"its operator {op} has an input of type (double|float16)"):
        Session(tmp_path / "m.onnx", native="on")


# ---- numbers that are none


@linear
@pytest.mark.parametrize("cpu", native_models.CPUS)
def test_nan_and_infinity_go_where_a_dense_layer_sends_them(
    op: str, cpu: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the outputs of their row alone: NaN, infinity with the sign of its weight, NaN where two infinities meet."""
    native_models.choose_cpu(cpu, monkeypatch, library)
    for kind in range(3):
        layer = native_ops.layer(op, 40, 50, kind)
        kernel = session(native_ops.model(op, 40, 50, kind, body=False), library)
        matrix = layer.double().dense().detach().numpy().T  # (n, m)
        for rows in (5, 40):
            x = inputs(rows, 40)
            alone = run(kernel, x)
            x[1, 5], x[2, 7], x[3, [0, 9]] = np.nan, -np.inf, [np.inf, -np.inf]
            y = run(kernel, x)
            finite = np.isfinite(x).all(1)
            assert_close(y[finite], alone[finite], nmse=1e-12, what="rows beside")
            assert np.isnan(y[1]).all()
            with np.errstate(invalid="ignore"):
                np.testing.assert_array_equal(y[2], (matrix[7] * -np.inf).astype(np.float32))
                np.testing.assert_array_equal(y[3], (matrix[0] * np.inf - matrix[9] * np.inf).astype(np.float32))


@pytest.mark.slow
@every_op
def test_weights_that_are_no_numbers_stay_with_their_outputs(op: str, library: str) -> None:
    """The bias of the last output is NaN: no other output has it."""
    layer = native_ops.layer(op, N, M)
    with torch.no_grad():
        (getattr(layer, "bias_out", None) if op == "TiedFFN" else layer.bias)[-1] = np.nan
    model = layer_model(layer, N)
    expected = run_onnxruntime(model, inputs(3, N))
    model.functions.clear()
    y = run(session(native_ops.ir.to_proto(model), library), inputs(3, N))

    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    assert np.isnan(y).sum() == 3
    gc.collect()
