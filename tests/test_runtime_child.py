"""A child process that fails in any way is one sentence in the parent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgefc.errors import ModelError, UsageError
from edgefc.runtime import child
from tests import onnx_models as models

FORBIDDEN = ("torch", "onnx", "pydantic", "rich")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child.environment())


def imports(*modules: str) -> str:
    """A program that imports these and exits with the forbidden ones it then finds."""
    return f"import sys, {', '.join(modules)}\nsys.exit(' '.join(m for m in {FORBIDDEN} if m in sys.modules) or 0)"


def test_probes_carry_numpy_and_onnxruntime_only() -> None:
    done = run_python(imports("edgefc.runtime", *(f"edgefc.runtime.probe_{n}" for n in PROBES)))

    assert (done.returncode, done.stderr) == (0, "")


PROBES = ("check", "load", "memory", "steady")


def test_profile_loads_neither_torch_nor_onnx() -> None:
    done = run_python(imports("edgefc.runtime.profiler", "edgefc.runtime.table", "edgefc.commands.profile"))

    assert "torch" not in done.stderr.split() and "onnx" not in done.stderr.split()


def test_the_import_check_can_fail() -> None:
    """Meta-test: importing onnx on purpose is seen."""
    done = run_python(imports("edgefc.runtime", "onnx"))

    assert (done.returncode, done.stderr.split()) == (1, ["onnx"])


def question(path: Path) -> dict[str, object]:
    return {"models": [{"path": str(path)}], "batches": [None], "preset": "latency", "inputs": None}


def test_an_error_in_the_child_is_raised_again(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.onnx: No such file"):
        child.ask("probe_check", question(tmp_path / "absent.onnx"), about="absent.onnx")


def test_a_child_that_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx was still running after 0\.01 s"):
        child.ask("probe_check", question(models.matmul(tmp_path / "m.onnx")), about="m.onnx", limit_s=0.01)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL .*Memory", id="killed"),
        pytest.param("import os; os.abort()", "ended with SIGABRT", id="aborted"),
        pytest.param("raise MemoryError", "more memory than there is", id="out of memory"),
        pytest.param("raise TypeError('slipped')", "failed in a child process: TypeError", id="a fault"),
        pytest.param("print('no answer')", "ended without an answer", id="silent"),
    ],
)
def test_a_child_that_dies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, said: str) -> None:
    """A stand-in for python runs `code` instead of the probe."""
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}"\n')
    fake.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(fake))

    with pytest.raises(ModelError, match=f"m.onnx .*{said}") as caught:
        child.ask("probe_check", {}, about="m.onnx")

    assert "\n" not in str(caught.value)


def test_a_numpy_in_the_current_folder_is_not_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("PYTHONSAFEPATH is of Python 3.11")
    path = models.matmul(tmp_path / "m.onnx")
    (tmp_path / "numpy.py").write_text("raise SystemExit('wrong numpy')")
    monkeypatch.chdir(tmp_path)

    assert child.ask("probe_check", question(Path(os.path.basename(path))), about="m.onnx")[0][0]["batch"] == 1


def test_relative_entries_of_pythonpath_are_those_of_the_start(tmp_path: Path) -> None:
    """A folder that became current later is not searched for them, nor for empty entries."""
    root = Path(child.__file__).resolve().parents[1]
    code = (
        "import os; from edgefc.runtime import child; "
        f"os.chdir({str(tmp_path)!r}); print(child.environment()['PYTHONPATH'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((".", "", "absent"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment)

    assert set(done.stdout.strip().split(os.pathsep)) == {str(root), str(root / "absent")}
