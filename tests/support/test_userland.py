"""The arm64 folder: what it says where it cannot be, and what a program finds in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgefc.errors import DeviceError, UsageError
from tests.support import userland


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of the right stamp, on a machine that has all it takes."""
    root = tmp_path / "arm64"
    (root / "etc").mkdir(parents=True)
    (root / "etc/edgefc-userland.json").write_text(json.dumps(userland._wanted()))
    monkeypatch.setenv("EDGEFC_ARM64_ROOT", str(root))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(userland, "_absent", lambda: None)
    monkeypatch.setattr(userland, "_registered", lambda: True)
    return root


def test_a_folder_that_is_complete(ready: Path) -> None:
    assert userland.folder() == ready and userland.missing() is None
    assert userland.build(ready) == ready


@pytest.mark.parametrize("stamp", ["", "{", '{"recipe": 0}', None])
def test_a_folder_of_other_versions_or_none(ready: Path, stamp: str | None) -> None:
    file = ready / "etc/edgefc-userland.json"
    file.unlink() if stamp is None else file.write_text(stamp)

    assert userland.folder() is None
    assert userland.missing() == (
        f"{ready} holds no arm64 folder of these versions. Make it with: python -m tests.support.userland"
    )


def test_another_user(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert userland.folder() is None and "by root only" in str(userland.missing())
    with pytest.raises(DeviceError, match=r"made by root only .* Run it as root\.$"):
        userland.build(ready)


def test_programs_that_are_not_installed(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(userland.shutil, "which", lambda program, path: None if "qemu" in program else program)

    said = "the arm64 folder needs qemu-user-static. Install with: apt-get install qemu-user-static."
    assert userland.missing() == said
    with pytest.raises(DeviceError) as caught:
        userland.build(ready)
    assert str(caught.value) == said


def test_a_machine_that_has_started_anew(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userland, "_registered", lambda: False)

    assert userland.folder() is None and "do not run here since the last start" in str(userland.missing())


def test_a_step_that_fails_leaves_no_folder(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userland, "SUITE", "no-such-suite")
    monkeypatch.setenv("PATH", str(ready.parent))
    program = ready.parent / "debootstrap"
    program.write_text("#!/bin/sh\necho first line\necho E: No such script\nexit 3\n")
    program.chmod(0o755)

    with pytest.raises(DeviceError, match=r"Debian's packages: exit 3, 'E: No such script'\. .*new\.log has more"):
        userland.build(ready.with_name("new"))
    assert not ready.with_name("new").exists()


def test_a_place_that_cannot_be(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (ready / "file").touch()

    assert userland.main(["--folder", str(ready / "file/x")]) == 3
    assert capsys.readouterr().err == f"edgefc: the arm64 folder {ready}/file/x cannot be made: File exists. " + (
        "Choose another place.\n"
    )


def test_names_of_variables_are_names(ready: Path) -> None:
    with pytest.raises(UsageError, match="'A B' is no name of an environment variable"):
        userland.command(ready, ["true"], env={"A B": "1"})


@pytest.mark.slow
def test_programs_inside(tmp_path: Path) -> None:
    """Arm64, with /proc and a shared folder, arguments and environment untouched, killed by what kills the command."""
    root = userland.folder()
    if root is None:
        pytest.skip(f"NO ARM64 PROGRAM IS TESTED: {userland.missing()}")
    (tmp_path / "a file").write_text("shared")
    code = (
        "import os, platform, sys; print([platform.machine(), open('/mnt/a file').read(), sys.argv[1:], "
        "os.environ['X'], os.path.exists('/proc/self/status'), 'PYTHONPATH' in os.environ])"
    )
    argv = ["python3", "-c", code, "$HOME; 'x'", ""]
    done = subprocess.run(
        userland.command(root, argv, env={"X": "a b"}, share=tmp_path), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(["aarch64", "shared", argv[3:], "a b", True, False])

    with subprocess.Popen(userland.command(root, ["sleep", "60"])) as sleeping:
        sleeping.terminate()
        assert sleeping.wait(10) == -15
    assert str(root) not in Path("/proc/mounts").read_text()
