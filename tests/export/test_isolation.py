"""Code of the user's: what it changes of the process is put back, and whatever it raises is one whole sentence."""

import io
import locale
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgefc.cli import main
from edgefc.errors import ExportError, UsageError, describe_error, first_line, reason_of
from edgefc.export import export, verify
from edgefc.export.model.source import load_model

HEAD = "import os, sys\nimport torch\nfrom torch import nn\nmodel = lambda: (nn.Linear(8, 4), (torch.zeros(1, 8),))\n"


def source(folder: Path, text: str) -> str:
    """A file with a factory `make`."""
    (folder / "own.py").write_text(HEAD + text)
    return f"{folder / 'own.py'}:make"


CHANGES = {
    "the folder, in the factory": "def make():\n    os.chdir('/')\n    return model()\n",
    "the folder, at import": "os.chdir('/')\nmake = model\n",
    "the folder, before it fails": "def make():\n    os.chdir('/')\n    1 / 0\n",
    "argv": "def make():\n    sys.argv[:] = ['other']\n    return model()\n",
    "stdout": "def make():\n    import io\n    sys.stdout = io.StringIO()\n    return model()\n",
    "stdout closed": "def make():\n    sys.stdout.close()\n    return model()\n",
    "stderr closed": "def make():\n    sys.stderr.close()\n    return model()\n",
    "the descriptor of stdout": "def make():\n    os.close(1)\n    return model()\n",
    "stdout, None": "def make():\n    sys.stdout = None\n    return model()\n",
    "warnings": "import warnings\nwarnings.simplefilter('error')\nmake = model\n",
    "handlers": "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nmake = model\n",
    "the recursion limit": "def make():\n    made = model()\n    sys.setrecursionlimit(80)\n    return made\n",
    "the locale": "import locale\ndef make():\n    locale.setlocale(locale.LC_ALL, 'C')\n    return model()\n",
}


def state() -> list[Any]:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    streams = [None if stream is None else stream.closed for stream in (sys.stdout, sys.stderr)]
    return [os.getcwd(), list(sys.argv), streams, list(warnings.filters), handlers, sys.getrecursionlimit(),
            locale.setlocale(locale.LC_ALL), os._exit, threading.Thread.start]  # fmt: skip


@pytest.mark.parametrize("change", [each for each in CHANGES if "descriptor" not in each])  # pytest needs it
def test_what_a_factory_changes_is_put_back(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before, given = state(), source(tmp_path, CHANGES[change])
    try:
        load_model(given, None, [])
    except UsageError as error:
        assert "ZeroDivisionError: division by zero (own.py, line 7)" in str(error)  # noqa: PT017

    assert state() == before


@pytest.mark.slow
def test_what_follows_a_factory(tmp_path: Path) -> None:
    """In a process of its own, where stdout is a file of the system.

    What is printed afterwards arrives, and a thread that the factory left running does not keep the process.
    """
    program = "import sys\nfrom edgefc.export.model.source import load_model\n"
    waiting = "import threading, time\ndef make():\n    threading.Thread(target=time.sleep, args=(600,)).start()\n"
    cases = {name: CHANGES[name] for name in ("stdout, None", "stderr closed", "the descriptor of stdout")}
    cases["a thread"] = waiting + "    return model()\n"
    for name, text in cases.items():
        (tmp_path / name).mkdir()
        given = source(tmp_path / name, text)
        program += f"load_model({given!r}, None, [])\nprint({name!r})\nprint({name!r}, file=sys.stderr)\n"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)

    printed = "".join(f"{name}\n" for name in cases)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, printed)


def test_outputs_go_where_the_user_named_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the folder in which the command was started: the factory and forward both leave it."""
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(tmp_path)
    source(tmp_path, f"""
class Moving(nn.Linear):
    def forward(self, x):
        os.chdir({str(away)!r})
        return super().forward(x)

def make():
    os.chdir({str(away)!r})
    torch.manual_seed(0)
    return Moving(8, 4), (torch.zeros(1, 8),)
""")  # fmt: skip

    assert main(["export", "own.py:make", "-o", "m.onnx", "--json", "m.json"]) == 0
    assert main(["verify", "m.onnx", "own.py:make", "--json", "v.json"]) == 0

    assert sorted(each.name for each in tmp_path.iterdir()) == ["away", "m.json", "m.onnx", "own.py", "v.json"]
    assert not list(away.iterdir())
    assert os.getcwd() == str(tmp_path)


class Moving(nn.Linear):
    """Leaves the folder in each run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        os.chdir("/")
        return super().forward(x)


def test_export_and_verify_with_a_forward_that_leaves_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, x = Moving(8, 4), torch.randn(2, 8)

    export(model, x, "a.onnx")
    assert verify("a.onnx", model, x).holds

    assert (tmp_path / "a.onnx").is_file()
    assert os.getcwd() == str(tmp_path)


class Raising(nn.Linear):
    error: BaseException

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise self.error


class Own(BaseException):
    """Of no class that code catches by habit."""


class Mute(Exception):
    """Has no text that can be read."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Odd(Exception):
    """Its text is no text."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


class Leaving(Exception):
    """Ends the process when it is read."""

    def __str__(self) -> str:
        sys.exit(0)


ERRORS = {
    "without a text": (ValueError(), "ValueError"),
    "an empty text": (ValueError(""), "ValueError"),
    "spaces": (ValueError(" \n\t "), "ValueError"),
    "full stops": (ValueError("..."), "ValueError"),
    "a blank first line": (ValueError("\n\nsecond"), "ValueError: second"),
    "a text that raises": (Mute(), "Mute"),
    "a text that is a number": (Odd(), "Odd"),
    "a text that ends the process": (Leaving(), "Leaving"),
    "a huge text": (ValueError("word " * 100_000), "ValueError: word word"),
    "one huge word": (ValueError("x" * 100_000), "ValueError: xxx"),
    "another base": (Own("gone"), "Own: gone"),
    "a generator's end": (GeneratorExit(), "GeneratorExit"),
    "an exit": (SystemExit(0), "SystemExit: 0"),
    "an exit without a code": (SystemExit(), "SystemExit"),
    "a missing key": (KeyError("weight"), "KeyError: 'weight'"),
    "no memory": (MemoryError(), "MemoryError"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a model that does not raise."""
    path = tmp_path_factory.mktemp("good") / "good.onnx"
    export(nn.Linear(8, 4), torch.zeros(2, 8), path, verify=False)
    return path


@pytest.mark.parametrize("case", ERRORS)
def test_exceptions_are_told_in_a_whole_sentence(
    case: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a factory, and of forward in export and in verify: their type, and their text where there is one."""
    error, said = ERRORS[case]
    path = tmp_path / "m.onnx"
    model, x = Raising(8, 4), torch.zeros(2, 8)
    model.error = error
    monkeypatch.setattr("edgefc.errors.own", error, raising=False)
    given = source(tmp_path, "import edgefc.errors\ndef make():\n    raise edgefc.errors.own\n")

    texts = []
    for run in (lambda: load_model(given, None, []), lambda: export(model, x, path), lambda: verify(good, model, x)):
        with pytest.raises((UsageError, ExportError)) as caught:
            run()
        texts.append(str(caught.value))

    assert all(said in text for text in texts), texts
    assert all(": ." not in text and ": :" not in text and "  " not in text and len(text) < 600 for text in texts)
    assert all(text.endswith(".") and "\n" not in text for text in texts)
    assert not path.exists()


@pytest.mark.parametrize(
    "error",
    [OSError(), OSError(2, None), OSError(2, ""), TimeoutError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "")],
)
def test_reasons_are_never_empty(error: Exception) -> None:
    for text in (reason_of(error), first_line(error), describe_error(error)):
        assert text.strip(" .:")
    assert reason_of(OSError(2, "No such file or directory")) == "No such file or directory"


FACTORIES = {
    "a generator": ("def make():\n    yield model()\n", "returned a generator, not a torch.nn.Module"),
    "a coroutine": ("async def make():\n    return model()\n", "returned a coroutine, not a torch.nn.Module"),
    "with arguments": ("def make(width):\n    return model()\n", "missing 1 required positional argument: 'width'. "),
    "a class with arguments": ("make = nn.Linear\n", "missing 2 required positional arguments"),
    "no function": ("make = 7\n", "has no function 'make'"),
    "nothing": ("def make(): pass\n", "returned a NoneType"),
    "os._exit": ("def make(): os._exit(0)\n", "raised: SystemExit: 0 (own.py, line 5)"),
    "os._exit at import": ("os._exit(0)\n", "cannot be imported: SystemExit: 0 (own.py, line 5)"),
    "sys.exit": ("def make(): sys.exit()\n", "raised: SystemExit (own.py, line 5)"),
    "no Python": ("def make(:\n", "SyntaxError: invalid syntax (own.py, line 5)"),
    "no end": ("def make(): return make()\n", "RecursionError: maximum recursion depth exceeded"),
}


@pytest.mark.parametrize("case", FACTORIES)
@pytest.mark.filterwarnings("error")
def test_factories_that_make_no_model(case: str, tmp_path: Path) -> None:
    text, said = FACTORIES[case]

    with pytest.raises(UsageError) as caught:
        load_model(source(tmp_path, text), None, [])

    assert said in str(caught.value)


def test_children_of_a_factory_may_end(tmp_path: Path) -> None:
    """os._exit() ends a child that was forked, as multiprocessing does."""
    forking = "def make():\n    child = os.fork()\n    if not child:\n        os._exit(3)\n"
    given = source(tmp_path, forking + "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3\n"
                                       "    return model()\n")  # fmt: skip

    model, _ = load_model(given, None, [])

    assert isinstance(model, nn.Linear)


def test_streams_without_a_descriptor_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a notebook, say."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    held = sys.stdout

    load_model(source(tmp_path, CHANGES["stdout"]), None, [])

    assert sys.stdout is held


def test_sizes_beyond_what_python_reads(tmp_path: Path) -> None:
    """Python reads numbers of up to 4,300 digits."""
    given = source(tmp_path, "def make():\n    return model()\n")
    for text in ("9" * 5000 + "x8", "1" * 30 + "x8"):
        with pytest.raises(UsageError, match=r"--input .* is larger than memory|is not SHAPE") as caught:
            load_model(given, None, [text])
        assert len(str(caught.value)) < 300


def test_the_seeded_example_is_a_normal_array(tmp_path: Path) -> None:
    _, (x,) = load_model(source(tmp_path, "def make():\n    return model()\n"), None, ["2x64"])

    np.testing.assert_array_equal(x.numpy(), torch.randn(2, 64, generator=torch.Generator().manual_seed(0)).numpy())
