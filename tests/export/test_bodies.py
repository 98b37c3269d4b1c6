"""The choice among the bodies of an operator: export(bodies=...), --body, and their old names."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from edgefc import CirculantLinear
from edgefc.cli import main
from edgefc.errors import UsageError
from edgefc.export import export
from edgefc.export.bodies import BodyChoice, check_bodies
from edgefc.export.registry import operators
from tests.support import cli_models as models


def operators_of(path: Path) -> set[str]:
    return {node.op_type for function in onnx.load(path).functions for node in function.node}


@pytest.mark.parametrize(
    ("bodies", "said"),
    [
        pytest.param(
            {"PRPLinear": "dense"},
            "PRPLinear has no body 'dense'. Choose one of: auto, resident, streaming.",
            id="a-body-that-is-none",
        ),
        pytest.param(
            {"Circulant": "dft"},
            "cannot choose a body for 'Circulant': no operator has that name. "
            "Operators with several bodies: CirculantLinear, ",
            id="an-operator-that-is-none",
        ),
        pytest.param(
            {"CirculantLinear": "auto"}, "CirculantLinear has no body 'auto'. Choose one of: matmul, dft.", id="no-auto"
        ),
    ],
)
def test_what_is_no_choice(bodies: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_bodies(bodies)
    assert str(caught.value).startswith(said)


def test_bodies_must_be_a_mapping(tmp_path: Path) -> None:
    bodies: Any = "dft"
    with pytest.raises(
        UsageError, match=r"^bodies must be a mapping of operators to bodies, such as \{.*, got 'dft'\."
    ):
        export(CirculantLinear(8, 8), models.rows(2, 8), tmp_path / "m.onnx", bodies=bodies)


def test_operators_of_one_body_are_not_listed_in_the_report(tmp_path: Path) -> None:
    """And the choice for an operator that the model does not use is no fault: one set of choices serves many models."""
    asked = {"CirculantLinear": "dft", "PRPLinear": "streaming", "BilinearLinear": "products"}
    report = export(CirculantLinear(8, 8), models.rows(2, 8), tmp_path / "m.onnx", verify=False, bodies=asked)
    assert report.bodies == {"CirculantLinear": BodyChoice("dft", "as requested")}
    assert "DFT" in operators_of(tmp_path / "m.onnx")


def test_the_old_arguments_and_fields_still_work(tmp_path: Path) -> None:
    model: Any = CirculantLinear(8, 8)
    with pytest.warns(
        FutureWarning, match=r"export\(circulant='dft'\) is now export\(bodies=\{'CirculantLinear'"
    ) as told:
        report = export(model, models.rows(2, 8), tmp_path / "m.onnx", verify=False, circulant="dft")
    assert told[0].filename == __file__
    assert "DFT" in operators_of(tmp_path / "m.onnx")
    with pytest.warns(FutureWarning, match=r"ExportReport\.circulant is now ExportReport\.bodies") as told:
        assert report.circulant == "dft"
    assert told[0].filename == __file__
    with pytest.warns(FutureWarning):
        assert (report.prp, report.prp_reason) == (None, None)


def test_the_old_options_still_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    source = "tests.support.cli_models:tiny_and_inputs"
    assert main(["export", source, "-o", str(path), "--no-verify", "--prp", "streaming"]) == 0
    out, err = capsys.readouterr()
    assert "PRPLinear: streaming (as requested)" in out
    assert err == (
        "edgefc export: --prp is deprecated. Use --body PRPLinear=streaming. The next release removes --prp.\n"
    )
    assert "Loop" in operators_of(path)


def test_the_first_body_is_the_default() -> None:
    """What a file holds without a choice; the names are what users write."""
    assert operators()["CirculantLinear"].choices == ("matmul", "dft")
    assert operators()["PRPLinear"].choices == ("auto", "resident", "streaming")
    assert operators()["BilinearLinear"].choices == ("products",)
