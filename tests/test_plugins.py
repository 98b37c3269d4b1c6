"""Another package's layer, operator and transport: registered by entry points, used like edgefc's own."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import edgefc.catalogue.rows
from edgefc.catalogue import entries
from edgefc.catalogue.rows import rows
from edgefc.cli import main
from edgefc.devices.transports import registry as transport_registry
from edgefc.errors import UsageError
from edgefc.export import export, registry
from edgefc.export.inspecting.inspector import inspect
from edgefc.runtime import Session
from edgefc.testing import assert_close, layer_model, run_onnxruntime

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "tests/support/plugin"


def install(folder: Path, points: str | None = None) -> Path:
    """The package as pip would leave it, with these entry points or its own."""
    shutil.copytree(PLUGIN / "edgefc_example", folder / "edgefc_example")
    info = folder / "edgefc_example-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edgefc-example\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text((PLUGIN / "entry_points.txt").read_text() if points is None else points)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python looks for packages in. What was found before is forgotten, and afterwards again."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    _forget()
    yield place
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "edgefc_example"]:
        del sys.modules[name]
    registry.operators.cache_clear()
    transport_registry.transports.cache_clear()


def test_nothing_is_registered_without_the_package() -> None:
    """Or the tests below would prove nothing."""
    assert "ExampleRankOne" not in registry.operators()
    assert "here" not in transport_registry.transports()


def test_a_layer_exports_verifies_and_is_inspected(folder: Path, tmp_path: Path) -> None:
    install(folder)
    (entry,) = (entry for entry in entries() if entry.name == "RankOneLinear")
    layer, x = entry.make(12), torch.randn(3, 12)

    report = export(torch.nn.Sequential(layer), x, tmp_path / "m.onnx")

    assert report.verified is not None and report.verified.holds
    wanted = x.double().numpy() @ np.outer(layer.left.detach(), layer.right.detach()).T.astype(np.float64)
    assert_close(Session(tmp_path / "m.onnx").run({"input": x.numpy()})["output"], wanted, nmse=1e-12, what="session")
    assert_close(run_onnxruntime(layer_model(layer, 12), x.numpy()), wanted, nmse=1e-12, what="body")
    (found,) = inspect(tmp_path / "m.onnx").layers
    assert (found.op, found.shape, found.detail) == ("ExampleRankOne", "12 x 12", "rank one")


def test_a_layer_appears_in_edgefc_layers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has a row for each entry; here only that of the package is exported, which takes no minute."""
    install(folder)
    assert {entry.name for entry in entries()} > {"RankOneLinear", "CirculantLinear"}
    monkeypatch.setattr(
        edgefc.catalogue.rows, "entries", lambda: [entry for entry in entries() if entry.name == "RankOneLinear"]
    )
    (row,) = rows()
    assert (row.layer, row.ops, row.numbers, row.multiply_adds) == ("RankOneLinear", ("ExampleRankOne",), 2304, 1536)


@pytest.mark.slow
def test_the_command_of_another_process(folder: Path, tmp_path: Path) -> None:
    install(folder)
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "edgefc", "layers", "--json", str(tmp_path / "rows.json")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    told = json.loads((tmp_path / "rows.json").read_text())
    assert "RankOneLinear" in {row["layer"] for row in told}


@pytest.mark.slow
def test_a_transport_is_used_by_edgefc_devices(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written down, listed, and reached: check asks the agent that the transport starts."""
    install(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home = tmp_path / "home"
    home.mkdir()

    assert main(["devices", "add", "desk", "--via", f"here={home}"]) == 0
    assert main(["devices"]) == 0
    assert f"desk here {home}" in " ".join(capsys.readouterr().out.split())
    assert main(["devices", "check", "desk", "--json", str(tmp_path / "check.json")]) == 0
    assert "note: here: by a package of somebody else" in capsys.readouterr().out
    assert any(home.rglob("*.pyz"))


@pytest.mark.parametrize(
    ("points", "said"),
    [
        pytest.param(
            "[edgefc.operators]\na = edgefc_example.operator:OPERATOR\nb = edgefc.export.ops.prp:OPERATOR\n",
            r"edgefc-example \(edgefc\.export\.ops\.prp:OPERATOR\) declares the operator PRPLinear, which "
            r"edgefc\.export\.ops, PRPLinear also declares\. Rename one of them\.",
            id="two-claims-on-one-operator",
        ),
        pytest.param(
            "[edgefc.operators]\na = edgefc_example.absent:OPERATOR\n",
            r"cannot use the entry point 'a' of edgefc\.operators in edgefc-example "
            r"\(edgefc_example\.absent:OPERATOR\): ModuleNotFoundError: No module named 'edgefc_example\.absent'\. "
            r"Update or uninstall that package\.",
            id="not-to-be-imported",
        ),
        pytest.param(
            "[edgefc.operators]\na = edgefc_example.operator:describe\n",
            r"it is a function, not an instance of Operator\. Update or uninstall that package\.",
            id="no-operator",
        ),
    ],
)
def test_an_operator_that_cannot_be_used(folder: Path, points: str, said: str) -> None:
    install(folder, points)
    with pytest.raises(UsageError, match=said):
        registry.operators()


def test_an_attribute_means_the_same_in_every_operator(folder: Path) -> None:
    """Readers of a file check attributes by name, whether or not the package is installed where they run."""
    path = install(folder) / "edgefc_example/operator.py"
    text = (
        path.read_text()
        .replace("import SIZE", "import FLAG, SIZE")
        .replace('"out_features": SIZE', '"out_features": FLAG')
    )
    path.write_text(text)
    with pytest.raises(UsageError, match="declares the attribute out_features as an integer from 0 to 1, and"):
        registry.operators()


@pytest.mark.parametrize(
    ("points", "said"),
    [
        pytest.param("a = edgefc_example.operator", "has no ENTRIES, a tuple of", id="no-entries"),
        pytest.param(
            "a = edgefc_example.layer:RankOneLinear", "it is a type, not an instance of module", id="no-module"
        ),
        pytest.param(
            "a = edgefc.layers.prp.conv", "has an entry 'PRPConv2d', which another layer also has", id="again"
        ),
    ],
)
def test_layers_that_cannot_be_used(folder: Path, points: str, said: str) -> None:
    install(folder, f"[edgefc.layers]\n{points}\n")
    with pytest.raises(UsageError, match=said):
        entries()


@pytest.mark.parametrize(
    ("points", "said"),
    [
        pytest.param(
            "a = edgefc.devices.transports.ssh:SshTransport", "are both transports of the kind 'ssh'", id="again"
        ),
        pytest.param("a = edgefc_example.layer:RankOneLinear", "it is not a subclass of Transport", id="no-transport"),
        pytest.param("a = edgefc.devices.transports.base:Transport", "without a kind or without address_is", id="bare"),
    ],
)
def test_transports_that_cannot_be_used(folder: Path, points: str, said: str) -> None:
    install(folder, f"[edgefc.transports]\n{points}\n")
    with pytest.raises(UsageError, match=said):
        transport_registry.transports()


# ---- the page


def test_the_page_shows_this_package() -> None:
    """Every Python block is the code that runs above, every TOML line an entry point of it; every file named exists."""
    page = (ROOT / "edgefc/layers/README.md").read_text(encoding="utf-8")
    code = "".join((PLUGIN / "edgefc_example" / name).read_text() for name in ("layer.py", "operator.py"))
    blocks = re.findall(r"```(\w*)\n(.*?)```", page, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["", "python", "python", "toml"]
    assert all(block in code for kind, block in blocks if kind == "python")
    points = (PLUGIN / "entry_points.txt").read_text()
    for line in blocks[-1][1].splitlines():
        if "=" in line:
            assert line.replace('"', "") in points
    named = re.findall(r"`([a-z_]+/[\w/.]+)`", page)
    assert [name for name in named if not (ROOT / name).exists()] == []
