"""The harness of tests/attack detects every kind of fault, and reports nothing else as a fault."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attack.outcome import OK, SENTENCE, of_command, of_text

ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
import json, os, subprocess, time
from pathlib import Path
from edgefc.errors import UsageError
from tests.attack.harness import Case, adopt, command, run
from tests.attack.outcome import Fault

def refuse():
    raise UsageError("cannot use it. Give another one.")

def differs():
    raise Fault("wrong value", "1, expected 2")

acts = {
    "ok": lambda: None,
    "sentence": refuse,
    "sentence of a command": lambda: command("inspect", "nothing.onnx"),
    "crash": lambda: os.kill(os.getpid(), 11),
    "crash without a message": lambda: os._exit(0),
    "hang": lambda: time.sleep(60),
    "child left": lambda: subprocess.Popen(["sleep", "60"], start_new_session=True) and None,
    "left behind": lambda: Path(os.environ["TMPDIR"], "x").touch(),
    "left behind, hidden": lambda: Path(".m.onnx.1234").touch(),
    "exception": lambda: 1 / 0,
    "wrong value": differs,
    "exit code": lambda: 7,
}
adopt()
results = {name: run(lambda act=act: Case(name, lambda _: act(), limit_s=0.5), 0) for name, act in acts.items()}
print(json.dumps({name: result.outcome.status for name, result in results.items()}))
"""


def test_each_outcome() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)

    statuses = json.loads(done.stdout)

    expected = {name: "crash" if name.startswith("crash") else name.partition(",")[0] for name in statuses}
    assert statuses == {**expected, "sentence of a command": "sentence"}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (SENTENCE, "cannot load m.onnx: it is a folder. Name the .onnx file in it."),
        ("lost message", "cannot load m.onnx: onnxruntime gave no reason."),
        ("raw text", "cannot load m.onnx: [ONNXRuntimeError] : 1 : FAIL : no."),
        ("raw text", "cannot load m.onnx: conv.cc:261 Compute bias must be 1D."),
        ("raw text", "cannot load m.onnx: std::bad_alloc."),
        ("guessed cause", "it ended with SIGKILL. Memory probably ran out: give a smaller batch."),
        ("no sentence", ""),
        ("no sentence", "cannot load m.onnx"),
        ("no sentence", f"cannot load {'m' * 5000}."),
    ],
)
def test_texts_of_the_api(status: str, text: str) -> None:
    assert of_text(text).status == status


@pytest.mark.parametrize(
    ("status", "code", "out", "err"),
    [
        (OK, 0, "a table\n", ""),
        (OK, 0, "a table\n", "w.pt: removed the prefix 'module.' from every name\n"),
        (SENTENCE, 2, "", "edgefc inspect: no file m.onnx. Name one.\n"),
        (SENTENCE, 2, "", "usage: edgefc inspect [-h] MODEL\nedgefc inspect: error: unrecognized arguments: --x\n"),
        ("exit code", 4, "", "edgefc inspect: no file m.onnx. Name one.\n"),
        ("no sentence", 2, "", ""),
        ("no sentence", 2, "", "edgefc inspect: two\nlines.\n"),
        ("noise", 0, "", "2026-01-01 [W:onnxruntime:, graph.cc] a warning\n"),
        ("traceback", 1, "", "Traceback (most recent call last):\nKeyError\n"),
        ("control characters", 0, "\x1b[31mred\n", ""),
        ("control characters", 2, "", "edgefc inspect: \x07 is no name. Give another.\n"),
    ],
)
def test_ends_of_commands(status: str, code: int, out: str, err: str) -> None:
    assert of_command(code, out, err).status == status
