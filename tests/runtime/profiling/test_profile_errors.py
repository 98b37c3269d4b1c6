"""Bad input to edgefc profile: one line on stderr, exit code 2, and nothing measured."""

from pathlib import Path
from typing import Any

import pytest

import edgefc.runtime.profiling.profiler
from edgefc.cli import main
from edgefc.errors import UsageError
from edgefc.runtime import profile
from tests.support import onnx_models as models
from tests.support.in_process import in_process  # noqa: F401  a fixture


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a good model, a cut one, one of fixed batch and one with an open size."""
    models.matmul(tmp_path / "good.onnx")
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "good.onnx").read_bytes()[:90])
    models.matmul(tmp_path / "fixed.onnx", batch=4)
    models.embedding(tmp_path / "open.onnx", words="words")
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 no archive")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(edgefc.runtime.profiling.profiler, "_Profiler", None)  # measuring would be a TypeError
    return tmp_path


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("absent.onnx", "cannot load absent.onnx: No such file"),
        (".", "it is a folder. Name the .onnx file in it"),
        ("good.onnx cut.onnx", "cannot load cut.onnx: it is not an ONNX file, or it is truncated"),
        ("fixed.onnx --batch 8", "fixed.onnx: batch 8 does not match input x float32[4, 8]"),
        ("open.onnx --shape ids=2", "--shape ids=2 has 1 axes, but input ids int64['n', 'words'] has 2"),
        ("good.onnx --shape x=2x9", "--shape x=2x9 does not match input x float32['batch', 8]: axis 1 is fixed. Use 8"),
        ("good.onnx --shape y=2x8", "--shape names 'y', but there is no such input. Inputs: x float32['batch', 8]"),
        ("good.onnx --range y=0:1", "--range names 'y', but there is no such input"),
        ("good.onnx --shape x=2x8 --batch 3", "batch 3 does not match a given shape, whose first size is 2"),
        ("good.onnx --shape x=2x8 --shape x=3x8", "--shape names an input twice"),
        (
            "good.onnx --inputs bad.npz --shape x=2x8",
            "inputs and shapes were both given, but shapes apply only to random inputs",
        ),
        ("open.onnx --range ids=0:0.5", "--range ids=0:0.5 does not match input ids"),
        (
            "open.onnx --range ids=0:2",
            "The inputs were random. Choose their sizes with --shape, their values with --range",
        ),
        ("good.onnx --batch 99999999999999", "takes more than 1099511627776 bytes. Give a smaller shape"),
        ("good.onnx --inputs absent.npz", "cannot read absent.npz: No such file"),
        ("good.onnx --inputs bad.npz", "cannot read bad.npz: it is not an .npz file of plain arrays"),
        ("good.onnx --inputs bad.npz --batch 2", "batch 2 was given, but the inputs set the batch size"),
        ("good.onnx --preset fast", "there is no preset 'fast'. Choose one of: latency, memory, battery"),
        ("good.onnx --json .", "cannot write .: it is a folder"),
        ("good.onnx --json good.onnx/r.json", "cannot write good.onnx/r.json"),
    ],
)
def test_what_cannot_be_profiled(folder: Path, capfd: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    code = main(["profile", *arguments.split()])

    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("edgefc profile: ") and err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("option", ["--batch", "--threads"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "1,", "1.5", "", "1,0"])
def test_counts_that_are_none(folder: Path, capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["profile", "good.onnx", f"{option}={value}"])

    assert caught.value.code == 2
    assert f"{value!r} is not a list of counts. Give positive integers" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [{"batch": 0}, {"batch": []}, {"batch": "8"}, {"threads": True}, {"threads": [1, 0]}, {"launches": 0},
     {"inputs": {"x": len}}, {"shapes": {"x": "1x8"}}, {"shapes": {"x": (0, 8)}}, {"ranges": {"x": (1, 0)}},
     {"ranges": {"x": 5}}, {"ranges": {"x": (0, float("inf"))}}, {"shapes": {"x": (True, 8)}},
     {"min_time_s": float("nan")}],
    ids=str,
)  # fmt: skip
def test_arguments_that_cannot_be_used(folder: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        profile("good.onnx", **arguments)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--shape", v) for v in ("x", "x=", "=1x2", "x=0", "x=1x-2", "x=1.5", "x=1*2")]
    + [("--range", v) for v in ("x", "x=1", "=0:1", "x=2:1", "x=a:b", "x=0:inf", "x=nan:1", "x=0:1:2", "x=0:1e999")],
)
def test_shapes_and_ranges_that_are_none(
    folder: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["profile", "good.onnx", f"{option}={value}"])

    assert caught.value.code == 2
    form = {"--shape": "NAME=SHAPE", "--range": "NAME=LOW:HIGH"}[option]
    assert f"{value!r} is not {form}." in capsys.readouterr().err


def test_no_model_at_all() -> None:
    with pytest.raises(UsageError, match="no model was given"):
        profile([])


def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["profile", "--help"])

    assert "edgefc profile dense.onnx circulant.onnx --batch 1,64" in capsys.readouterr().out
