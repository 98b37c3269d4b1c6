"""Files that exist are replaced with --force only, and that is said before the work; every command says the same."""

from pathlib import Path
from typing import Any

import pytest

from edgefc.cli import main
from edgefc.errors import UsageError
from edgefc.outputs import check_outputs
from tests.support import onnx_models as models

TINY = "tests.support.cli_models:tiny"

# Each writes a file called out.json; what is behind the bar would do the work.
COMMANDS = {
    "export": (f"export {TINY} -o out.json", "edgefc.export.model.source.load_model"),
    "export --json": (f"export {TINY} -o new.onnx --json out.json", "edgefc.export.model.source.load_model"),
    "verify": (f"verify a.onnx {TINY} --json out.json", "edgefc.export.model.source.load_model"),
    "inspect": ("inspect a.onnx --json out.json", "edgefc.export.inspecting.inspector.inspect"),
    "estimate": ("estimate a.onnx --device pi5 --json out.json", "edgefc.devices.by_name.estimate"),
    "profile": ("profile a.onnx --json out.json", "edgefc.runtime.profiling.profiler.profile"),
    "profile, two": ("profile a.onnx --device x,y --json out.json", "edgefc.devices.many.profile_many"),
    "bench": ("bench --json out.json", "edgefc.bench.measure.bench"),
    "bench --plot": ("bench --plot out.svg", "edgefc.bench.measure.bench"),
    "layers": ("layers --json out.json", "edgefc.catalogue.rows.rows"),
    "layers --markdown": ("layers --markdown out.json", "edgefc.catalogue.rows.rows"),
    "devices": ("devices --json out.json", "edgefc.devices.profiles.profile.load"),
    "devices list": ("devices list --json out.json", "edgefc.devices.profiles.profile.load"),
    "devices --json list": ("devices --json out.json list", "edgefc.devices.profiles.profile.load"),
    "devices check": ("devices check local --json out.json", "edgefc.devices.by_name.check"),
    "devices serve": ("devices serve a.onnx --json out.json", "edgefc.devices.browser.serve.serve"),
}


class Worked(Exception):
    """The work began."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    models.matmul(tmp_path / "a.onnx")
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_exists_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise Worked

    line, place = COMMANDS[name]
    (file,) = {word for word in line.split() if word.startswith("out.")}
    (folder / file).write_text("old")
    monkeypatch.setattr(place, work)

    assert main(line.split()) == 2
    said = f"edgefc {line.split()[0]}: {file} exists. Choose another name, or replace it with --force.\n"
    assert capsys.readouterr().err == said
    with pytest.raises(Worked):
        main([*line.split(), "--force"])
    (folder / file).unlink()
    with pytest.raises(Worked):
        main(line.split())


def test_with_force_it_is_replaced(folder: Path) -> None:
    (folder / "r.json").write_text("old")

    assert main(["devices", "--force", "--json", "r.json"]) == 0
    assert (folder / "r.json").read_text() != "old"
    assert main(["devices", "--json", "r.json"]) == 2


@pytest.mark.parametrize("action", ["add x --ssh x", "remove x", "provision x"])
def test_actions_that_write_no_json(folder: Path, capsys: pytest.CaptureFixture[str], action: str) -> None:
    assert main(["devices", "--json", "r.json", *action.split()]) == 2

    said = f"edgefc devices: edgefc devices {action.split()[0]} does not write JSON. Omit --json.\n"
    assert capsys.readouterr().err == said
    assert sorted(path.name for path in folder.iterdir()) == ["a.onnx"]


def test_a_link_leads_to_the_file_that_would_be_replaced(folder: Path) -> None:
    """A link to nothing is no file that exists: what it leads to is written."""
    (folder / "old.json").touch()
    for name, target in (("link.json", "old.json"), ("new.json", "nothing.json")):
        (folder / name).symlink_to(target)

    check_outputs(["new.json", None], force=False)
    with pytest.raises(UsageError, match=r"^link\.json exists\."):
        check_outputs(["new.json", "link.json"], force=False)


@pytest.mark.parametrize("names", [["r.json", "./r.json"], ["a.onnx"]])
def test_force_replaces_no_input_and_no_other_output(folder: Path, names: list[str]) -> None:
    with pytest.raises(UsageError, match="this command uses that file already"):
        check_outputs(names, force=True, inputs=["a.onnx", None])
