"""The tree of errors, and the sentence about a package that is missing."""

import inspect
import pickle
import re

import pytest

from edgefc import errors
from edgefc.errors import EdgefcError, MissingExtra, needs_extra, refused_by_system

TREE = {
    "EdgefcError": (Exception, 2),
    "UsageError": (EdgefcError, 2),
    "ShapeError": (errors.UsageError, 2),
    "MissingExtra": (errors.UsageError, 2),
    "ExportError": (EdgefcError, 2),
    "ModelError": (EdgefcError, 2),
    "UnknownOperator": (errors.ModelError, 2),
    "CheckFailed": (EdgefcError, 1),
    "DeviceError": (EdgefcError, 3),
    "MissingPackage": (errors.DeviceError, 3),
}
CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}


def test_the_tree() -> None:
    """Parents and exit codes; every class stands in the docstring's drawing."""
    assert {name: (value.__bases__[0], value.exit_code) for name, value in CLASSES.items()} == TREE
    assert set(re.findall(r"\w+", errors.__doc__ or "")) >= set(TREE)


def test_errors_that_python_users_catch() -> None:
    assert issubclass(errors.UsageError, ValueError) and issubclass(MissingExtra, ImportError)
    assert not issubclass(errors.ModelError, ValueError)


@pytest.mark.parametrize("name", TREE)
def test_errors_cross_processes(name: str) -> None:
    error = pickle.loads(pickle.dumps(CLASSES[name]("what happened.", subject="numpy", device="pi")))

    assert type(error) is CLASSES[name] and str(error) == "what happened."
    assert (error.subject, error.device) == ("numpy", "pi")


@pytest.mark.parametrize("name", TREE)
def test_every_class_has_a_code_of_its_own(name: str) -> None:
    assert errors.of_code(CLASSES[name].code) is CLASSES[name]
    reworded = CLASSES[name]("what happened.", subject="numpy").reworded("in other words.")
    assert (type(reworded), str(reworded), reworded.subject) == (CLASSES[name], "in other words.", "numpy")


def test_a_code_that_nobody_has() -> None:
    assert errors.of_code("SystemExit") is None


def test_a_missing_package() -> None:
    with pytest.raises(MissingExtra) as caught, needs_extra("torch", "edgefc export"):
        raise ModuleNotFoundError("No module named 'onnx_ir.passes'", name="onnx_ir.passes")

    assert str(caught.value) == (
        "edgefc export needs the package 'onnx_ir', which is not installed. "
        "Install it with: pip install 'edgefc[torch]'"
    )
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'edgefc.layers.absent'", name="edgefc.layers.absent"),
        ModuleNotFoundError("of no name"),
        ImportError("cannot import name 'x' from 'torch'", name="torch"),
        ValueError("something else"),
    ],
    ids=["a-module-of-ours", "nameless", "a-name-in-it", "no-import"],
)
def test_other_errors_pass(error: Exception) -> None:
    """A fault of ours is no missing package."""
    with pytest.raises(type(error)) as caught, needs_extra("torch", "edgefc export"):
        raise error

    assert caught.value is error


@pytest.mark.parametrize("most", range(20, 60))
def test_texts_are_cut_between_words(most: int) -> None:
    text = "torch cannot do this, please leave a comment below the issue."
    said = errors.shortened(text, most)
    assert len(said) <= most
    words = said.removesuffix(" ...").split()
    assert [word.rstrip(".,") for word in text.split()][: len(words)] == [word.rstrip(".,") for word in words]
    assert said.endswith(" ...")


def test_texts_that_fit_stay_and_words_that_do_not_are_cut() -> None:
    assert errors.shortened(" a short text. ", 13) == "a short text."
    assert errors.shortened("x" * 50, 20) == "x" * 16 + " ..."


def test_the_first_line_of_what_other_code_raises() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert errors.first_line(ValueError("\n  one line.\nand another")) == "one line"
    assert errors.first_line(ValueError()) == "ValueError"
    assert errors.first_line(Mute()) == "Mute"
    place = "[enforce fail at inline_container.cc:340] . file in archive is not in a subdirectory w/: w"
    assert errors.first_line(RuntimeError(place)) == "file in archive is not in a subdirectory w/: w"
    place = 'ok() INTERNAL ASSERT FAILED at "../c10/a.cpp":7, please report a bug to PyTorch. No storage'
    assert errors.first_line(RuntimeError(place)) == "No storage"
    assert errors.first_line(ValueError("word " * 99)).endswith("word word ...")


def test_memory_that_torch_cannot_allocate() -> None:
    text = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to " \
        "allocate 549755813632 bytes. Error code 12 (Cannot allocate memory)"  # fmt: skip
    told = refused_by_system(RuntimeError(text))
    assert told is not None and told.startswith("Unable to allocate 549,755,813,632 bytes. Close other programs")
    assert refused_by_system(RuntimeError("x")) is None
