"""The adb transport. No phone was at hand: its words are tried on a shell, its errors on a real adb without a phone."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edgefc.devices.agent.answers import Facts
from edgefc.devices.board.check import report
from edgefc.devices.board.client import Board
from edgefc.devices.transports.adb import AdbTransport
from edgefc.errors import DeviceError
from edgefc.runtime.probes.plain import read
from tests.devices.test_check import GOOD

HOSTILE = ["a b", "$HOME", "`id`", "$(id)", '"', "*", "; true", "&", "~", "%PATH%", "{a,b}", "#", "", "-n"]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that stand first on the path: an adb that does as adb shell does, and the phone's run-as."""
    say = "import json, sys; print(json.dumps(sys.argv[1:]))"
    (tmp_path / "run-as").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c \'{say}\' "$@"\n')
    (tmp_path / "adb").write_text('#!/bin/sh\nshift 4\nexec sh -c "$*"\n')
    for name in ("run-as", "adb"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_every_word_arrives_as_it_was(fake: Path) -> None:
    """adb joins its words with blanks, the phone's shell splits them again."""
    with AdbTransport("phone", "SERIAL").start(["python3", "-c", *HOSTILE]) as process:
        out, err = process.communicate(timeout=20)

    words = json.loads(out)
    assert err == b""
    assert words[:2] == ["com.termux", "env"] and words[-len(HOSTILE) - 2 :] == ["python3", "-c", *HOSTILE]


def test_the_words_of_the_call(fake: Path) -> None:
    words = AdbTransport("phone", "emulator-5554").command(["python3"])

    assert words[:5] == [str(fake / "adb"), "-s", "emulator-5554", "shell", "-T"] and len(words) == 6


@pytest.mark.parametrize("serial", ["", "-s", "--help"])
def test_a_serial_that_is_an_option(serial: str) -> None:
    with pytest.raises(DeviceError, match="is not the serial of a phone"):
        AdbTransport("phone", serial)


@pytest.mark.parametrize(
    ("code", "stderr", "message"),
    [
        (
            1,
            "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set",
            "Accept the key on its screen",
        ),
        (1, "error: device offline", "the phone is offline"),
        (1, "run-as: unknown package: com.termux", "Termux is not installed on the phone"),
        (1, "run-as: package not debuggable: com.termux", "Termux on the phone does not allow access by adb. Use ssh"),
        (127, "sh: /data/data/com.termux/files/usr/bin/python3: not found", None),
        (-9, "", "adb on this machine was killed by SIGKILL"),
    ],
)
def test_what_adb_says(code: int, stderr: str, message: str | None) -> None:
    found = AdbTransport("phone", "SERIAL").explain(code, stderr)

    assert found is None if message is None else message in str(found)


def test_what_was_not_tried_is_said() -> None:
    told = report(AdbTransport("phone", "SERIAL"), None, read(Facts, GOOD), 0.0, 0.0)

    assert "adb: not tested on a phone" in told.notes


def test_no_adb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"cannot reach phone: adb is not installed on this machine\. Install it"):
        Board(AdbTransport("phone", "SERIAL"))


def test_a_real_adb_without_a_phone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts a server of its own, which is ended again."""
    if shutil.which("adb") is None:
        pytest.skip("NOT TESTED: adb is not installed here; Debian has it: apt install adb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free.getsockname()[1]))
    try:
        with pytest.raises(DeviceError, match=r"^phone: no phone with this serial is connected"):
            Board(AdbTransport("phone", "NO-SUCH-PHONE"), sweeps=False)
    finally:
        subprocess.run(["adb", "kill-server"], check=False, capture_output=True)
