"""Boards whose environment lacks something: the agent starts nevertheless, or one sentence has the reason."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgefc.devices.board.check import check
from edgefc.devices.board.client import Board
from edgefc.devices.transports.local import LocalTransport
from edgefc.errors import DeviceError
from tests.support.boards import home

NOBODY = "setpriv --reuid=12345 --regid=12345 --clear-groups"  # no user has this number
PYTHON = "/usr/bin/python3"  # which every user may run
WRITABLE = r"Set XDG_CACHE_HOME there to a writable folder\.$"


def board(folder: Path, script: str) -> LocalTransport:
    """One whose Python is started by a shell script, as "$@", with a home of its own."""
    program = folder / "python3"
    program.write_text(f"#!/bin/bash\n{script}\n")
    program.chmod(0o755)
    return LocalTransport("pi", python=str(program), environment=home(folder / "home"))


def mounted(*options: str, then: str = "true") -> str:
    """A script with another file system at its home, for it alone."""
    mount = f'mount -t tmpfs {" ".join(options)} none "$HOME"' if options else "true"
    return (
        f'exec unshare -m bash -c \'mount --make-rprivate / && {mount} && {then} && exec {sys.executable} "$@"\' x "$@"'
    )


def needs_root(*programs: str) -> None:
    if os.geteuid() != 0 or not all(map(shutil.which, programs)):
        pytest.skip(f"NOT TESTED: this board needs root and {', '.join(programs)}")
    if "unshare" in programs and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("NOT TESTED: no mount namespaces here")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (f'exec {NOBODY} env -u HOME {PYTHON} "$@"', r"its user 12345 has no home folder: HOME is '' there"),
        (f'exec {NOBODY} env HOME= {PYTHON} "$@"', r"its user 12345 has no home folder: HOME is '' there"),
        (f'exec env HOME=x {PYTHON} "$@"', r"has no home folder: HOME is 'x' there, and XDG_CACHE_HOME is not set\."),
        (f'exec {NOBODY} env HOME=/nowhere {PYTHON} "$@"', rf"write /nowhere/.*: Permission denied\. {WRITABLE}"),
        (f'exec env HOME=/etc/passwd {PYTHON} "$@"', rf"write /etc/passwd/.*: Not a directory\. {WRITABLE}"),
        (f'ulimit -f 1; exec {PYTHON} "$@"', rf"cannot write .*: File too large\. {WRITABLE}"),
        (mounted("-o", "ro"), rf"cannot write .*: Read-only file system\. {WRITABLE}"),
        (mounted("-o", "nr_inodes=7"), r"cannot write .*: No space left on device\. Free some space there, or set"),
    ],
    ids=["no home", "empty", "relative", "missing", "a file", "ulimit -f", "read-only", "full"],
)  # fmt: skip
def test_no_place_for_the_agent(tmp_path: Path, script: str, message: str) -> None:
    needs_root("setpriv", "unshare")
    with pytest.raises(DeviceError, match=rf"^pi: .*{message}") as caught:
        Board(board(tmp_path, script))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "script",
    [
        f'exec env -u HOME XDG_CACHE_HOME="$HOME/c" {sys.executable} "$@"',
        f'exec env TMPDIR=/proc {sys.executable} "$@"',
        f'exec env LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {sys.executable} "$@"',
        mounted(then="umount -l /proc"),
        mounted("-o", "noexec"),
    ],
    ids=["no home", "no TMPDIR", "LC_ALL=C", "no /proc", "noexec"],
)
def test_an_agent_that_does_without(tmp_path: Path, script: str) -> None:
    """Files with names that are not ASCII too."""
    needs_root("unshare")
    (tmp_path / "f").write_bytes(b"1")
    with Board(board(tmp_path, script)) as there:
        there.call("claim")
        assert there.place({"größe/模型.onnx": tmp_path / "f"})


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["-n 12", "-n 7", "-v 100000", "-v 30000"])
def test_limits_of_the_shell(tmp_path: Path, limit: str) -> None:
    """What is missing then has the reason that was measured, whatever ended."""
    transport = board(tmp_path, f'ulimit {limit}; exec {sys.executable} "$@"')
    try:
        found = next(line for line in check(transport).lines if line.what == "onnxruntime").value
    except DeviceError as error:
        found = str(error)
    known = r"[\d.]+$|OSError: .* Too many open files$|ImportError: .* map segment"
    known += r"|Python ended with exit code 1: .*Memory alloc"
    assert re.match(known + r"|pi ended the agent \(exit 1: RuntimeError: can't start new thread\)\.", found)


def test_a_python_that_is_too_old(tmp_path: Path) -> None:
    old = "import sys; sys.version_info, sys.version = (3, 8, 1), '3.8.1 (old)'; code = sys.argv[2]; del sys.argv[1:3]"
    transport = board(tmp_path, f'exec {PYTHON} -c "{old}; exec(code)" "$@"')
    with pytest.raises(DeviceError, match=r"^pi: its Python is 3\.8\.1, but edgefc needs 3\.9\."):
        Board(transport)
