"""The command line: what it prints, its exit codes, and that every mistake is one line with nothing half-written."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import edgefc
import edgefc.cli
from edgefc.cli import TASKS, main
from edgefc.commands import modules
from edgefc.errors import CheckFailed, DeviceError, EdgefcError, ExportError, ModelError, UsageError
from tests.support import cli_models as models
from tests.support.json_schema import assert_valid

TINY = "tests.support.cli_models:tiny_and_inputs"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    assert main(["export", TINY, "-o", str(path)]) == 0
    return path


@pytest.fixture
def folder(tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: a good file, damaged ones, weights that fit and that do not."""
    whole, state = exported.read_bytes(), models.tiny().state_dict()
    (tmp_path / "tiny.onnx").write_bytes(whole)
    (tmp_path / "cut.onnx").write_bytes(whole[:-200])
    (tmp_path / "text.onnx").write_text("no model")
    save_file(state, tmp_path / "fits.safetensors")
    torch.save(state, tmp_path / "fits.pt")
    torch.save(models.tiny(), tmp_path / "module.pt")
    save_file({**state, "0.kernel": state["0.kernel"][..., :4].clone()}, tmp_path / "other.safetensors")
    save_file({**state, "0.kernel": state["0.kernel"] + 1}, tmp_path / "trained.safetensors")
    (tmp_path / "train.py").write_text("import own_package_that_is_absent\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path


BAD = [  # arguments, exit code, what the line says
    ("export tests.support.cli_models:absent -o new.onnx", 2, "has no function 'absent'"),
    ("export absent.py:make -o new.onnx", 2, "no file absent.py"),
    ("export train.py:make -o new.onnx", 2, "No module named 'own_package_that_is_absent' (train.py, line 1)"),
    ("export tests.support.cli_models:raises -o new.onnx", 2, "raised: KeyError"),
    ("export tests.support.cli_models:text -o new.onnx", 2, "returned a str"),
    ("export tests.support.cli_models:tiny -o new.onnx", 2, "no example inputs"),
    ("export tests.support.cli_models:tiny -o new/deep/model.onnx", 2, "no example inputs"),
    ("export tests.support.cli_models:tiny --input 2x9 -o new.onnx", 2, "expects inputs of shape (..., 8), got"),
    ("export tests.support.cli_models:tiny --input 2x8 --input 2x8 -o new.onnx", 2,
     "on inputs of shapes (2, 8), (2, 8)"),
    ("export tests.support.cli_models:tiny --input 0x8 -o new.onnx", 2, "batch size 0"),
    ("export tests.support.cli_models:tiny --input 2,8 -o new.onnx", 2, "'2,8' is not SHAPE[:DTYPE]"),
    ("export tests.support.cli_models:looks_at_numbers -o new.onnx", 2, "torch reports GuardOnDataDependentSymNode"),
    ("export tests.support.cli_models:two_rows_only -o new.onnx", 2, "--fixed-batch"),
    ("export tests.support.cli_models:other_in_the_file -o tiny.onnx --force", 1, "tiny.onnx does not compute"),
    (f"export {TINY} -o tiny.onnx", 2, "tiny.onnx exists. Choose another name, or replace it with --force"),
    (f"export {TINY} -o .", 2, "it is a folder"),
    (f"export {TINY} -o . --force", 2, "it is a folder"),
    (f"export {TINY} -o train.py/new.onnx", 2, "cannot write train.py/new.onnx: "),
    (f"export {TINY} -o new.onnx --json train.py/r.json", 2, "cannot write train.py/r.json: "),
    (f"export {TINY} -o new.onnx --opset 12", 2, "opset=12. Choose one from 18 to 23"),
    (f"export {TINY} -o new.onnx --weights absent.pt", 2, "no file absent.pt"),
    (f"export {TINY} -o new.onnx --weights text.onnx", 2, "cannot read weights from text.onnx"),
    (f"export {TINY} -o new.onnx --weights module.pt", 2, "Pickled models are not loaded"),
    (f"export {TINY} -o new.onnx --weights other.safetensors", 2, "has other shapes for 0.kernel"),
    (f"verify absent.onnx {TINY}", 2, "no file absent.onnx"),
    (f"verify cut.onnx {TINY}", 2, "cannot load cut.onnx: it is not an ONNX file, or it is truncated"),
    (f"verify text.onnx {TINY}", 2, "cannot load text.onnx: it is not an ONNX file, or it is truncated"),
    ("verify tiny.onnx tests.support.cli_models:tiny --input 2x9", 2, "cannot run on inputs of shapes (2, 9)"),
    ("verify tiny.onnx tests.support.cli_models:tiny --input 0x8", 2, "batch size 0"),
    ("export tests.support.cli_models:leaves_with_0 -o new.onnx", 2,
     "tests.support.cli_models:leaves_with_0 raised: SystemExit: 0"),
    ("export tests.support.cli_models:forward_leaves -o new.onnx", 2, "inputs of shapes (2, 8): SystemExit: 0"),
    ("verify tiny.onnx tests.support.cli_models:leaves_with_0", 2,
     "tests.support.cli_models:leaves_with_0 raised: SystemExit: 0"),
    ("verify tiny.onnx tests.support.cli_models:forward_leaves", 2, "inputs of shapes (2, 8): SystemExit: 0"),
    ("verify tiny.onnx tests.support.cli_models:named_tensors_leave", 2, "BuffersLeave.eval() raised SystemExit: 0"),
    ("verify tiny.onnx tests.support.cli_models:random", 1, "Random is random"),
    ("verify tiny.onnx tests.support.cli_models:dense", 1, "has shape (2, 4) in onnxruntime and (2, 3) in torch"),
    (f"verify tiny.onnx {TINY} --weights trained.safetensors", 1, "the first layer that differs is '0'"),
    (f"verify tiny.onnx {TINY} --json train.py/r.json", 2, "cannot write train.py/r.json"),
    ("inspect absent.onnx", 2, "no file absent.onnx"),
    ("inspect .", 2, "no file ."),
    ("inspect cut.onnx", 2, "cannot load cut.onnx: it is not an ONNX file, or it is truncated"),
    ("inspect text.onnx", 2, "cannot load text.onnx: it is not an ONNX file, or it is truncated"),
    ("inspect tiny.onnx --json train.py/r.json", 2, "cannot write train.py/r.json"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "said"), BAD)
def test_mistakes(folder: Path, capfd: pytest.CaptureFixture[str], arguments: str, code: int, said: str) -> None:
    """One line on stderr, nothing on stdout, the right exit code, and the folder as it was."""
    before = models.files(folder)

    result = main(arguments.split())

    out, err = capfd.readouterr()
    assert (result, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith(f"edgefc {arguments.split()[0]}: ") and said in err and "Traceback" not in err
    assert models.files(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "absent",
        "export",
        "export x:y",
        f"export {TINY} -o new.onnx --opset twelve",
        f"export {TINY} -o new.onnx --body PRPLinear",
        f"export {TINY} -o new.onnx --body PRPLinear=",
        f"export {TINY} -o new.onnx --unknown",
        f"export {TINY} -o new.onnx --forc",
        "verify tiny.onnx",
        "inspect",
        "profile",
    ],
)
def test_arguments_that_do_not_parse(folder: Path, capsys: pytest.CaptureFixture[str], arguments: str) -> None:
    """argparse shows the usage; options are not abbreviated."""
    before = models.files(folder)

    with pytest.raises(SystemExit) as caught:
        main(arguments.split())

    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == ""
    assert err.startswith("usage: edgefc") and "error: " in err.splitlines()[-1]
    assert models.files(folder) == before


@pytest.mark.parametrize("weights", ["fits.safetensors", pytest.param("fits.pt", marks=pytest.mark.slow)])
def test_export_with_weights(folder: Path, capfd: pytest.CaptureFixture[str], weights: str) -> None:
    """The same weights from a file are the same bytes; the table goes to stdout."""
    code = main(["export", TINY, "-o", "new.onnx", "--weights", weights, "--json", "report.json"])

    out, err = capfd.readouterr()
    assert (code, err) == (0, "")
    assert (folder / "new.onnx").read_bytes() == (folder / "tiny.onnx").read_bytes()
    assert out.splitlines()[:2] == [
        f"new.onnx: {(folder / 'new.onnx').stat().st_size:,} bytes",
        "  structured layers  2 (0, 3)",
    ]
    assert "  body               CirculantLinear: matmul (the default)\n" in out
    assert (
        "  body               PRPLinear: resident (0.0 MiB of matrices, within 64 MiB: folded at load for speed)" in out
    )
    assert_valid("report.json", "export")
    report = json.loads((folder / "report.json").read_text())
    assert report["layers"] == ["0", "3"] and report["path"] == "new.onnx" and report["seconds"] > 0
    assert {output["rows"] for output in report["verified"]["outputs"]} == {1, 2, 3}


def test_export_options_reach_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--force --input 4x8 --fixed-batch --flat --no-verify --opset 18"
    options += " --body CirculantLinear=dft --body PRPLinear=streaming"

    code = main(["export", "tests.support.cli_models:tiny", "-o", "tiny.onnx", *options.split(), "--json", "r.json"])

    assert_valid("r.json", "export")
    report = json.loads((folder / "r.json").read_text())
    assert code == 0 and "verified           no (--no-verify)" in capsys.readouterr().out
    assert (report["opset"], report["verified"]) == (18, None)
    assert {op: choice["name"] for op, choice in report["bodies"].items()} == {
        "CirculantLinear": "dft",
        "PRPLinear": "streaming",
    }
    assert models.answers(folder / "tiny.onnx", models.rows(4))[0].shape == (4, 4)
    assert main(["inspect", "tiny.onnx"]) == 0
    assert "no structured layers that can be identified, since its functions were inlined (--flat)" in (
        capsys.readouterr().out
    )


def test_a_model_without_structured_layers(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exports, and inspect says so. The names of its outputs may have any length."""
    name = "n" * 99_999
    assert main(["export", "tests.support.cli_models:dense", "-o", "made/dense.onnx", "--output-names", name]) == 0
    assert main(["verify", "made/dense.onnx", "tests.support.cli_models:dense"]) == 0
    assert main(["inspect", "made/dense.onnx"]) == 0

    out, err = capfd.readouterr()
    assert err == "" and "structured layers  0\n" in out and max(map(len, out.splitlines())) < 300
    assert "\nThe file has no structured layers; it stores 27 numbers.\n" in out
    assert out.splitlines()[-1].split()[:3] == ["total", "27", "108"]


def test_verify(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["verify", "tiny.onnx", TINY, "--weights", "fits.pt", "--input", "5x8", "--json", "v.json"])

    out, err = capfd.readouterr()
    assert (code, err) == (0, "")
    assert out.startswith("tiny.onnx: torch and onnxruntime agree at 1, 3, 5 rows: worst output 'output'")
    assert_valid("v.json", "verify")
    record = json.loads((folder / "v.json").read_text())
    assert record["holds"] is True and record["parts_at"] is None and len(record["outputs"]) == 4
    assert out == f"tiny.onnx: {record['sentence']}\n"
    assert {"name", "rows", "shape", "nmse", "largest_difference", "bound", "holds"} < set(record["outputs"][0])


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> str:
    """For records; the sentence on it."""

    def refuse(path: object, _text: str) -> None:
        raise UsageError(f"cannot write {path}: No space left on device.")

    monkeypatch.setattr("edgefc.files.write_text", refuse)
    return "cannot write v.json: No space left on device."


def test_a_full_disk_loses_no_verdict(folder: Path, full_disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """That a file differs matters more than that its record could not be written: exit code 1, and both sentences."""
    for source, code in ((TINY, 2), ("tests.support.cli_models:dense", 1)):
        assert main(["verify", "tiny.onnx", source, "--json", "v.json"]) == code
        out, err = capsys.readouterr()
        assert err.startswith(f"edgefc verify: {full_disk}\n") and err.count("\n") == (1 if code == 2 else 2)
        assert ("torch and onnxruntime agree" in out) == (code == 2)
        assert ("edgefc verify: tiny.onnx" in err) == (code == 1)


def test_a_full_disk_loses_no_report(folder: Path, full_disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["export", TINY, "-o", "tiny.onnx", "--force", "--no-verify", "--json", "v.json"])

    out, err = capsys.readouterr()
    assert (
        code == 2 and "  body               CirculantLinear: matmul" in out and err == f"edgefc export: {full_disk}\n"
    )


def test_what_was_done_to_weights_is_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.save(
        {
            "state_dict": {
                f"net.{k}": v.half() if v.is_floating_point() else v for k, v in models.tiny().state_dict().items()
            }
        },
        "wrapped.pt",
    )
    exact = main(["verify", "tiny.onnx", TINY, "--weights", "wrapped.pt"])

    out, err = capfd.readouterr()
    assert exact == 1 and out == ""  # half precision is another model
    assert err.splitlines()[:2] == [
        "wrapped.pt: read the state dict under the key 'state_dict'",
        "wrapped.pt: removed the prefix 'net.' from every name",
    ]
    assert " from float16 to float32" in err.splitlines()[2]


def test_numbers_that_are_not_finite_need_a_word(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    state = {name: tensor.clone() for name, tensor in models.tiny().state_dict().items()}
    state["0.bias"][3] = float("nan")
    torch.save(state, "nan.pt")

    assert main(["verify", "tiny.onnx", TINY, "--weights", "nan.pt"]) == 2
    assert "0.bias in nan.pt has 1 of 16 values that are not finite, such as nan" in capfd.readouterr().err
    assert main(["verify", "tiny.onnx", TINY, "--weights", "nan.pt", "--allow-nonfinite"]) == 1
    assert "in other positions" in capfd.readouterr().err


def test_verify_writes_the_record_of_a_failure(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["verify", "tiny.onnx", TINY, "--weights", "trained.safetensors", "--json", "v.json"])

    assert_valid("v.json", "verify")
    record = json.loads((folder / "v.json").read_text())
    assert code == 1 and record["holds"] is False and record["parts_at"] == "0"


def test_inspect(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["inspect", "tiny.onnx", "--json", "i.json"])

    out, err = capfd.readouterr()
    words = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert_valid("i.json", "inspect")
    assert words[0] == ["tiny.onnx:", f"{(folder / 'tiny.onnx').stat().st_size:,}", "bytes,", "opset", "20"]
    assert words[2][:5] == ["0", "CirculantLinear", "16", "x", "8"] and words[2][-4:] == ["32", "128", "576", "4.5x"]
    assert words[3][:5] == ["3", "PRPLinear", "4", "x", "16"]
    assert words[4] == ["total", "56", "224", "848", "3.8x"]
    assert words[5][:6] == ["Other", "numbers", "in", "the", "file:", "272."]
    assert words[7][:3] == ["every", "layer", "op"] and words[8][:5] == ["2", "Gemm", "16", "x", "16"]
    record = json.loads((folder / "i.json").read_text())
    assert [layer["name"] for layer in record["layers"]] == ["0", "3"]
    assert record["other_numbers"] == 272 and record["opset"] == 20
    assert {"BilinearLinear", "CirculantLinear", "EUGenLinear", "PRPLinear"} <= {*record["parts"][0]["fits"]}


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for option, said in (("--version", f"edgefc {edgefc.__version__}\n"), ("--help", "usage: edgefc")):
        with pytest.raises(SystemExit) as caught:
            main([option])
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith(said)


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """--help has the one-line summary of the list, and an example to copy."""
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    assert max(map(len, listed.splitlines())) <= 120
    for name in modules():
        with pytest.raises(SystemExit):
            main([name, "--help"])
        text = capsys.readouterr().out
        assert re.search(rf"^    edgefc {name}\b", text, re.M), name
        assert len(re.findall(rf"^  {name} +\S", listed, re.M)) == 1


def test_help_groups_commands_by_task(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out

    groups = {part.partition(":")[0]: re.findall(r"^  (\w+)", part, re.M) for part in listed.split("\n\n")}
    assert [task for task in groups if task in TASKS] == ["make", "check", "measure", "devices", "learn"] == [*TASKS]
    for task, names in {
        "make": {"export"}, "check": {"inspect", "verify"}, "measure": {"bench", "estimate", "profile"},
        "devices": {"devices"}, "learn": {"demo", "layers", "recipe", "schema"},
    }.items():  # fmt: skip
        assert names <= set(groups[task])


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError, 2), (ExportError, 2), (ModelError, 2), (CheckFailed, 1), (DeviceError, 3), (KeyboardInterrupt, 130)],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[BaseException], code: int
) -> None:
    def fail(_args: Any) -> int:
        raise error("what happened.")

    monkeypatch.setattr("edgefc.commands.inspect.run", fail)

    assert main(["inspect", "x"]) == code
    said = "what happened." if issubclass(error, EdgefcError) else "interrupted"
    assert capsys.readouterr() == ("", f"edgefc inspect: {said}\n")


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only errors raised on purpose become one line."""
    monkeypatch.setattr("edgefc.commands.inspect.run", lambda _args: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        main(["inspect", "x"])


def test_as_a_program(folder: Path) -> None:
    """python -m edgefc, and output into a pipe that closes early."""
    command = [sys.executable, "-m", "edgefc"]
    root = str(Path(__file__).resolve().parents[2])
    options: dict[str, Any] = {"capture_output": True, "text": True, "env": {"PYTHONPATH": root}}

    version = subprocess.run([*command, "--version"], **options)
    piped = subprocess.run(f"'{sys.executable}' -m edgefc inspect tiny.onnx | true", shell=True, **options)

    assert (version.returncode, version.stdout) == (0, f"edgefc {edgefc.__version__}\n")
    assert (piped.returncode, piped.stderr) == (0, "")
