"""The browser's onnxruntime-web, its program and its keeper, without a browser and without the internet."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from edgefc.devices.browser import chromium, facts, keeper, onnxruntime_web
from edgefc.errors import DeviceError

CONTENT = {"a.mjs": b"one", "b.wasm": b"two" * 1000}
posix = pytest.mark.skipif(os.name != "posix", reason="groups of processes are POSIX's")


def tarball(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


class Registry(BaseHTTPRequestHandler):
    given = b""
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.given)))
        self.end_headers()
        self.wfile.write(self.given)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Registry]]:
    """A registry on loopback with a small onnxruntime-web, which is the pinned one, and an empty cache."""

    class Mine(Registry):
        given = tarball(CONTENT)
        asked: list[str] = []  # noqa: RUF012

    http = HTTPServer(("127.0.0.1", 0), Mine)
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{http.server_address[1]}/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(onnxruntime_web, "INTEGRITY", b64encode(hashlib.sha512(Mine.given).digest()).decode())
    monkeypatch.setattr(
        onnxruntime_web, "FILES", {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}
    )
    yield Mine
    http.shutdown()
    http.server_close()
    thread.join()


def test_fetched_once(registry: type[Registry]) -> None:
    for _ in range(2):
        assert {name: path.read_bytes() for name, path in onnxruntime_web.files().items()} == CONTENT
    assert registry.asked == [f"/onnxruntime-web/-/onnxruntime-web-{onnxruntime_web.VERSION}.tgz"]
    assert sorted(path.name for path in onnxruntime_web.cache().iterdir()) == sorted(CONTENT)
    assert onnxruntime_web.runtime_bytes() == 3003


def test_a_file_that_was_changed_is_fetched_again(registry: type[Registry]) -> None:
    (onnxruntime_web.files()["a.mjs"]).write_bytes(b"evil")
    assert onnxruntime_web.files()["a.mjs"].read_bytes() == b"one"


def test_another_tarball_is_refused(registry: type[Registry]) -> None:
    registry.given = tarball({**CONTENT, "a.mjs": b"evil"})
    with pytest.raises(DeviceError, match=r"is not the pinned onnxruntime-web \S+: its sha512 differs"):
        onnxruntime_web.files()
    assert list(onnxruntime_web.cache().iterdir()) == []


def test_put_there_by_hand(registry: type[Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a network."""
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")
    with pytest.raises(
        DeviceError, match=r"cannot download onnxruntime-web .* from http://127.0.0.1:1/.*copy that file"
    ):
        onnxruntime_web.files()
    (onnxruntime_web.cache() / onnxruntime_web._package().tarball).write_bytes(registry.given)
    assert onnxruntime_web.files()["b.wasm"].read_bytes() == CONTENT["b.wasm"]


def test_a_registry_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "file:///etc/passwd")
    with pytest.raises(DeviceError, match="npm_config_registry is 'file:///etc/passwd', which is not an http"):
        onnxruntime_web._package().url()


@posix
def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DeviceError, match=r"cannot store onnxruntime-web in .*: Not a directory\. Free some space"):
        onnxruntime_web.files()


def test_no_browser_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "_PLACES", ())
    monkeypatch.delenv("CHROME", raising=False)
    with pytest.raises(
        DeviceError, match=r"Chromium or Chrome is not on the PATH\. Install one \(apt install chromium\)"
    ):
        chromium.find()
    monkeypatch.setenv("CHROME", "nothing")
    with pytest.raises(DeviceError, match="CHROME is 'nothing', which is not a program"):
        chromium.find()
    monkeypatch.setenv("CHROME", sys.executable)
    assert chromium.find() == sys.executable


@posix
def test_a_browser_that_ends_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The exit code and the last error are reported, and the folder is removed."""
    program = tmp_path / "browser"
    program.write_text("#!/bin/sh\necho 'ERROR: no display' >&2\nexit 7\n")
    program.chmod(0o700)
    monkeypatch.setenv("CHROME", str(program))
    started = chromium.Chromium("http://127.0.0.1:1/")
    end = time.monotonic() + 20
    while started.gone() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert started.gone() == "browser ended with exit code 7; the last error in its log: ERROR: no display"
    started.close()
    assert not started._folder.exists()


@posix
def test_the_token_is_on_no_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nexec sleep 60\n')
    program.chmod(0o700)
    monkeypatch.setenv("CHROME", str(program))
    started = chromium.Chromium("http://127.0.0.1:1/TOKEN/")
    end = time.monotonic() + 20
    while not (tmp_path / "said").exists() and time.monotonic() < end:
        time.sleep(0.02)
    start = started._folder / "start.html"
    assert "TOKEN" in start.read_text() and start.parent.stat().st_mode & 0o077 == 0
    started.close()
    said = (tmp_path / "said").read_text()
    assert "TOKEN" not in said and "--headless=new" in said
    assert ("--no-sandbox" in said) == (os.geteuid() == 0)


@posix
def test_the_keeper_outlives_no_parent(tmp_path: Path) -> None:
    """Killed with -9, the parent closes nothing itself: the browser, its helpers and its folder go all the same."""
    started = parent_of_a_keeper(tmp_path)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    wait_for(lambda: not list(tmp_path.glob(f"{keeper.PREFIX}*")))
    for pid in (tmp_path / "pids").read_text().split():
        assert not Path(f"/proc/{pid}").exists()


@posix
def test_a_keeper_that_is_killed(tmp_path: Path) -> None:
    """The kernel ends its browser; the next keeper removes the folder."""
    started = parent_of_a_keeper(tmp_path)
    kept, browser = (tmp_path / "keeper").read_text(), (tmp_path / "pids").read_text().split()[1]
    os.kill(int(kept), signal.SIGKILL)
    wait_for(lambda: not running(browser))
    assert list(tmp_path.glob(f"{keeper.PREFIX}*"))
    started.kill()
    started.wait()

    started = parent_of_a_keeper(tmp_path)
    assert len(list(tmp_path.glob(f"{keeper.PREFIX}*"))) == 1
    started.kill()
    started.wait()
    wait_for(lambda: not list(tmp_path.glob(f"{keeper.PREFIX}*")))


@posix
def test_a_keeper_ends_with_the_terminal_after_its_browser(tmp_path: Path) -> None:
    """SIGHUP reaches every program of a terminal that closes; the keeper waits for the end of its parent."""
    started = parent_of_a_keeper(tmp_path)
    os.kill(int((tmp_path / "keeper").read_text()), signal.SIGHUP)
    started.kill()
    started.wait()
    wait_for(lambda: not list(tmp_path.glob(f"{keeper.PREFIX}*")))
    assert not running((tmp_path / "pids").read_text().split()[1])


def test_a_temporary_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "browser"
    program.write_text("#!/nowhere\n")
    program.chmod(0o700)
    monkeypatch.setenv("CHROME", str(program))
    with pytest.raises(DeviceError, match=r"^cannot start .*browser: .*browser: No such file or directory\.$"):
        chromium.Chromium("http://127.0.0.1:1/")
    monkeypatch.setenv("CHROME", "true")
    monkeypatch.setattr(chromium.keeper, "__file__", str(refusing_keeper(tmp_path)))
    with pytest.raises(DeviceError, match=r"no temporary folder can be written \(Read-only .*\)\. Set TMPDIR"):
        chromium.Chromium("http://127.0.0.1:1/")


def refusing_keeper(folder: Path) -> Path:
    """The keeper, in whose process no temporary folder can be made."""
    path = folder / "refusing.py"
    path.write_text(
        "import runpy, sys, tempfile\ndef refused(**_): raise OSError(30, 'Read-only file system')\n"
        f"tempfile.mkdtemp = refused\nsys.argv[0] = {keeper.__file__!r}\n"
        f"runpy.run_path({keeper.__file__!r}, run_name='__main__')\n"
    )
    return path


def parent_of_a_keeper(folder: Path) -> "subprocess.Popen[bytes]":
    """It started a keeper and does nothing more. `pids` holds the browser's helper and the browser, when they run."""
    (folder / "pids").unlink(missing_ok=True)
    parent = (
        "import subprocess, sys, time\n"
        "keeper = subprocess.Popen([sys.executable, *sys.argv[2:]], stdin=subprocess.PIPE)\n"
        "open(sys.argv[1], 'w').write(str(keeper.pid))\n"
        "keeper.stdin.write(b'http://127.0.0.1:1/\\n')\n"
        "keeper.stdin.flush()\n"
        "time.sleep(60)"
    )
    helpers = f"sleep 61 & echo $! $$ > {folder}/pids; wait"
    started = subprocess.Popen(
        [sys.executable, "-c", parent, str(folder / "keeper"), keeper.__file__, "sh", "-c", helpers],
        start_new_session=True, stdout=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    wait_for(lambda: (folder / "pids").exists() and (folder / "pids").read_text().count("\n") == 1)
    return started


def running(pid: str) -> bool:
    """Not one that ended and waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_note_names_the_pages_own_number() -> None:
    page = Path(facts.__file__).parent / "page" / "steady.js"
    assert f"const SAMPLE_STEPS = {facts.SAMPLE_STEPS};" in page.read_text(encoding="utf-8")
