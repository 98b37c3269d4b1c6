"""SOURCE on the command line: factories by name and by file, weights, and example inputs."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgefc.errors import UsageError
from edgefc.export.model.source import load_model, parse_input
from tests.support import cli_models as models

TINY = "tests.support.cli_models:tiny"


@pytest.fixture(autouse=True)
def own_imports() -> Iterator[None]:
    """Loading a source puts folders on the path and modules in place, as running it does: taken back here."""
    path, before = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


def refused(source: str, weights: Path | None = None, inputs: tuple[str, ...] = ()) -> str:
    with pytest.raises(UsageError) as caught:
        load_model(source, weights, inputs)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    return str(caught.value)


def test_a_factory_by_name() -> None:
    model, args = load_model("tests.support.cli_models:tiny_and_inputs", None, ())

    assert isinstance(model, nn.Sequential) and args.shape == (2, 8)


def test_a_factory_by_file(tmp_path: Path) -> None:
    """With a module beside it, as `python file.py` would find; from any folder."""
    (tmp_path / "own_sizes.py").write_text("OUT = 5\n")
    (tmp_path / "own_model.py").write_text(
        "from own_sizes import OUT\nfrom torch import nn\ndef make(): return nn.Linear(3, OUT)\n"
    )

    model, args = load_model(f"{tmp_path / 'own_model.py'}:make", None, ("2x3",))

    assert model.out_features == 5 and args[0].shape == (2, 3)


def test_inputs_given_replace_those_of_the_factory() -> None:
    _, args = load_model("tests.support.cli_models:tiny_and_inputs", None, ("4x8",))

    assert [tensor.shape for tensor in args] == [(4, 8)]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("tiny", "'tiny' does not name a factory. Write package.module:factory or path/to/file.py:factory"),
        ("net.py\nx:tiny", r"'net.py\nx' is not a valid module name. Write package.module:factory"),
        (":tiny", "does not name a factory"),
        ("tests.support.cli_models:", "does not name a factory"),
        ("tests.support.cli_models:absent", "tests.support.cli_models has no function 'absent'"),
        ("tests.support.cli_models:IN_FEATURES", "has no function 'IN_FEATURES'"),
        ("tests.absent:tiny", "tests.absent cannot be imported: ModuleNotFoundError: No module named 'tests.absent'"),
        ("absent/model.py:make", "no file absent/model.py"),
        ("tests.support.cli_models:raises", r"raised: KeyError: 'weights of\nmy own' (cli_models.py, line"),
        ("tests.support.cli_models:leaves", "raised: SystemExit: 3"),
        ("tests.support.cli_models:needs_an_argument", "raised: TypeError: needs_an_argument() missing 1 required"),
        ("tests.support.cli_models:text", "returned a str, not a torch.nn.Module"),
        (TINY, f"no example inputs for {TINY}. Return (model, args) from the factory, or give --input"),
    ],
)  # fmt: skip
def test_sources_that_make_no_model(source: str, said: str) -> None:
    assert said in refused(source)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("def make(:\n", "SyntaxError", id="syntax"),
        pytest.param("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'", id="import"),
        pytest.param("x = 1 / 0\n", "ZeroDivisionError: division by zero (own_broken.py, line 1)", id="raises"),
        pytest.param("import sys\nsys.exit('enough')\n", "SystemExit: enough", id="exits"),
    ],
)
def test_files_that_cannot_be_imported(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own_broken.py").write_text(text)

    message = refused(f"{tmp_path / 'own_broken.py'}:make")

    assert message.startswith(f"{tmp_path / 'own_broken.py'} cannot be imported: ") and said in message


def trained() -> nn.Module:
    """tiny() with other weights."""
    model = models.tiny()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    return model


def save(state: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_weights_are_loaded(tmp_path: Path, name: str) -> None:
    state = trained().state_dict()

    model, _ = load_model("tests.support.cli_models:tiny_and_inputs", save(state, tmp_path / name), ())

    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"0.kernel": None}, "does not match the model: it lacks 0.kernel", id="missing"),
        pytest.param({"4.weight": torch.zeros(1)}, "it has the unexpected names 4.weight", id="extra"),
        pytest.param({"0.kernel": torch.zeros(1, 1, 9)}, "it has other shapes for 0.kernel", id="other-shape"),
        pytest.param(
            dict.fromkeys(("0.kernel", "0.bias", "2.bias", "2.weight")), "it lacks 0.bias, 0.kernel, 2.bias and 1 more",
            id="many-missing",
        ),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(tmp_path: Path, name: str, change: dict[str, Any], said: str) -> None:
    state = {key: tensor for key, tensor in {**trained().state_dict(), **change}.items() if tensor is not None}

    message = refused("tests.support.cli_models:tiny_and_inputs", save(state, tmp_path / name))

    assert said in message and message.endswith("Use weights of this model.")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the pickle ran')",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(models.tiny(), "cannot read weights from", id="whole-module"),
        pytest.param(Bomb(), "Pickled models are not loaded, because they can run code", id="code"),
        pytest.param([torch.zeros(2)], "contains a list, not a state dict", id="list"),
        pytest.param({"0.kernel": 3}, "contains int for 0.kernel, not a tensor", id="numbers"),
        pytest.param({7: torch.zeros(1), "x": torch.zeros(1)}, "lacks", id="other-keys"),
    ],
)
def test_files_that_hold_no_state_dict(tmp_path: Path, content: Any, said: str) -> None:
    assert said in refused("tests.support.cli_models:tiny_and_inputs", save(content, tmp_path / "w.pt"))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("data", [b"", b"no weights", b"\xff" * 64], ids=["empty", "text", "bytes"])
def test_broken_weights(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)

    assert f"cannot read weights from {tmp_path / name}" in refused(TINY, tmp_path / name)


def test_no_weights(tmp_path: Path) -> None:
    assert "no file" in refused(TINY, tmp_path / "absent.pt")


@pytest.mark.parametrize(
    ("text", "shape", "dtype"),
    [
        ("1x64", (1, 64), torch.float32),
        ("7", (7,), torch.float32),
        ("2x3x4:float64", (2, 3, 4), torch.float64),
        ("1x16:int64", (1, 16), torch.int64),
        ("0x8", (0, 8), torch.float32),
        ("2:bool", (2,), torch.bool),
        ("2x3:", (2, 3), torch.float32),
        ("2x2:float16", (2, 2), torch.float16),
    ],
)
def test_input_shapes(text: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    first, again = parse_input(text), parse_input(text)

    assert (first.shape, first.dtype) == (shape, dtype)
    assert torch.equal(first, again)


@pytest.mark.parametrize("text", ["", "x", "1x", "-1x2", "1.5", "1 x 2", "2x3:int", "²", "1x64:float32:2", "axb"])
def test_texts_that_are_no_shape(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not SHAPE\[:DTYPE\]\. Write 1x64 or 1x16:int64"):
        parse_input(text)


@pytest.mark.parametrize("text", ["99999999x99999999", "99999999x99999999:int64", "9" * 30])
def test_shapes_that_no_memory_holds(text: str) -> None:
    with pytest.raises(UsageError, match="is larger than memory"):
        parse_input(text)
