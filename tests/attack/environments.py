"""Every command in unusual environments: right output, or one sentence.

If the environment has everything that a command needs, the command must succeed. If the output is known, it must
contain every number that it contains on a wide UTF-8 terminal.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.attack import mounts, stored
from tests.attack.commands import ROOT, Done, Setting, first, forked, fresh, judged, numbers
from tests.attack.harness import Case
from tests.attack.outcome import OK, Outcome

_STREAMS = ("stdin", "stdout", "stderr")
_USER = 54321  # a user without an entry in /etc/passwd


@dataclass(frozen=True)
class Command:
    """A command. argv contains FOLDER and OUT; code is the exit code of success; same: whether the output is known."""

    argv: str
    code: int = 0
    same: bool = False
    slow: bool = False


COMMANDS = (
    Command("inspect FOLDER/a.onnx --all", same=True),
    Command("estimate FOLDER/a.onnx --device pi5 --json OUT/r.json"),
    Command("devices", same=True),
    Command("devices check local --json OUT/r.json"),
    Command("devices add shed --ssh shed"),
    Command("layers --help", same=True),
    Command("recipe --list", same=True),
    Command("demo --help"),
    Command("inspect OUT/none.onnx", code=2),
    Command("bench --n x", code=2),
    Command("recipe no-such", code=2),
    Command("verify FOLDER/a.onnx FOLDER/net.py:model"),
    Command("export FOLDER/net.py:model -o OUT/m.onnx"),
    Command("profile FOLDER/a.onnx --time 0.02 --json OUT/r.json"),
    Command("bench --n 32 --batch 1 --layers ternary --time 0.01 --json OUT/r.json", slow=True),
)  # fmt: skip

Change = Callable[[Setting, Path], Setting]


@dataclass(frozen=True)
class Environment:
    """An environment. must: whether every command must succeed; but: the commands that may end with a sentence."""

    name: str
    change: Change
    must: bool = True
    but: tuple[str, ...] = ()
    stderr_works: bool = True


def _env(**variables: str | None) -> Change:
    return lambda setting, work: replace(setting, env={**setting.env, **variables})


def _homeless(variables: dict[str, str | None]) -> Change:
    """Put the settings in the folder of the case, because edgefc would otherwise write them to the user's home."""
    return lambda setting, work: replace(
        setting, env={**setting.env, **variables, "XDG_CONFIG_HOME": str(work / "config")}
    )


def _place(variable: str, kind: str) -> Change:
    """A variable with the path of a missing, full or read-only folder."""

    def change(setting: Setting, work: Path) -> Setting:
        place = work / "place"
        if kind == "absent":
            place = work / "absent" / "place"
        elif kind == "file":
            place.write_text("a file")
        else:
            mounts.disk(place)
            mounts.fill(place) if kind == "full" else mounts.read_only(place)
        return replace(setting, env={**setting.env, variable: str(place)})

    return change


def _limit(name: str, value: int) -> Change:
    return lambda setting, work: replace(setting, limits=((name, value),))


def _stream(name: str, path: str) -> Change:
    return lambda setting, work: replace(setting, streams={name: path})


def _closed(setting: Setting, work: Path) -> Setting:
    return replace(setting, streams=dict.fromkeys(("stdin", "stdout", "stderr"), "closed"))


def _user(setting: Setting, work: Path) -> Setting:
    """A user without a passwd entry, who owns only the folders of the case."""
    for path in (work, work.parent / "tmp", work / "out"):
        os.chown(path, _USER, _USER)
    work.parent.chmod(0o755)
    _let_python_be_read(work.parent / "over")
    return replace(setting, uid=_USER, env={**setting.env, "HOME": None})


def _let_python_be_read(over: Path) -> None:
    """If this Python is in a private folder of root, such as /root, give other users access to that part of it only."""
    for path in (Path(sys.executable).resolve(), Path(sys.prefix), ROOT):
        closed = next((each for each in reversed(path.parents) if not each.stat().st_mode & 0o001), None)
        if closed is not None:
            inside = over / path.relative_to(closed).parts[0]
            inside.mkdir(parents=True)
            mounts.bind(closed / inside.name, inside)
            mounts.bind(over, closed)


def _user_without_cache(setting: Setting, work: Path) -> Setting:
    return replace(_user(setting, work), env={"HOME": "/nonexistent", "USER": None, "LOGNAME": None})


def _gone(setting: Setting, work: Path) -> Setting:
    (work / "gone").mkdir()
    return replace(setting, cwd=work / "gone", gone=True)


def _locked(setting: Setting, work: Path) -> Setting:
    (work / "locked").mkdir()
    user = _user(setting, work)
    (work / "locked").chmod(0o111)
    return replace(user, cwd=work / "locked")


def _own_numpy(setting: Setting, work: Path) -> Setting:
    """User modules in the current folder with the names of modules that edgefc imports."""
    for name in ("numpy", "json", "onnxruntime", "tqdm", "edgefc"):
        (work / f"{name}.py").write_text(f"raise SystemExit('the {name} of the current folder')\n")
    return replace(setting, cwd=work)


def _python_path(setting: Setting, work: Path) -> Setting:
    (work / "path").mkdir()
    return replace(setting, env={"PYTHONPATH": f"{work / 'path'}::relative"})


ENVIRONMENTS = (
    Environment("nothing odd", lambda setting, work: setting),
    Environment("no HOME", _homeless({"HOME": None})),
    Environment("an empty HOME variable", _homeless({"HOME": ""})),
    Environment("HOME=/nonexistent", _env(HOME="/nonexistent"), but=("devices add", "devices check")),
    Environment("HOME read-only", _place("HOME", "read-only"), but=("devices add", "devices check")),
    Environment("HOME full", _place("HOME", "full"), but=("devices add", "devices check")),
    Environment("HOME is a file", _place("HOME", "file"), but=("devices", "devices add", "devices check")),
    Environment("XDG_CONFIG_HOME read-only", _place("XDG_CONFIG_HOME", "read-only"), but=("devices add",)),
    Environment("XDG_CONFIG_HOME is a file", _place("XDG_CONFIG_HOME", "file"), but=("devices",)),
    Environment("XDG_CONFIG_HOME is relative", _env(XDG_CONFIG_HOME="config")),
    Environment("XDG_CACHE_HOME read-only", _place("XDG_CACHE_HOME", "read-only"), but=("devices check",)),
    Environment("XDG_CACHE_HOME full", _place("XDG_CACHE_HOME", "full"), but=("devices check",)),
    Environment("no passwd entry", _user),
    Environment("no passwd entry, HOME=/nonexistent", _user_without_cache, but=("devices add", "devices check")),
    Environment("TMPDIR absent", _place("TMPDIR", "absent")),
    Environment("TMPDIR read-only", _place("TMPDIR", "read-only")),
    Environment("TMPDIR full", _place("TMPDIR", "full")),
    Environment("TMPDIR is a file", _place("TMPDIR", "file")),
    Environment("ulimit -n 12", _limit("RLIMIT_NOFILE", 12), must=False),
    Environment("ulimit -n 24", _limit("RLIMIT_NOFILE", 24), must=False),
    Environment("ulimit -n 4", _limit("RLIMIT_NOFILE", 4), must=False, stderr_works=False),
    Environment("ulimit -u 1", lambda s, w: replace(_user(s, w), limits=(("RLIMIT_NPROC", 1),)), must=False),
    Environment("ulimit -v 600 MB", _limit("RLIMIT_AS", 600 << 20), must=False),
    Environment("ulimit -v 2 GB", _limit("RLIMIT_AS", 2 << 30), must=False),
    Environment("ulimit -s 256 kB", _limit("RLIMIT_STACK", 256 << 10), must=False),
    Environment("ulimit -f 0", _limit("RLIMIT_FSIZE", 0), must=False, stderr_works=False),
    Environment("ulimit -t 1", _limit("RLIMIT_CPU", 1), must=False, stderr_works=False),
    Environment("PYTHONIOENCODING=ascii", _env(PYTHONIOENCODING="ascii")),
    Environment("PYTHONIOENCODING=cp1252", _env(PYTHONIOENCODING="cp1252")),
    Environment("PYTHONIOENCODING=latin-1:strict", _env(PYTHONIOENCODING="latin-1:strict")),
    Environment("PYTHONIOENCODING=utf-16", _env(PYTHONIOENCODING="utf-16")),
    Environment("PYTHONIOENCODING=cp037", _env(PYTHONIOENCODING="cp037")),
    Environment("LC_ALL=C, not coerced", _env(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")),
    Environment("LC_ALL of no locale", _env(LC_ALL="xx_YY.ISO8859-99")),
    Environment("TERM=dumb", _env(TERM="dumb")),
    Environment("TERM=dumb, FORCE_COLOR", _env(TERM="dumb", FORCE_COLOR="0")),
    Environment("TERM of no terminal", _env(TERM="no-such-terminal")),
    Environment("COLUMNS=10", _env(COLUMNS="10")),
    Environment("COLUMNS=1", _env(COLUMNS="1")),
    Environment("COLUMNS=0", _env(COLUMNS="0")),
    Environment("COLUMNS=wide", _env(COLUMNS="wide")),
    Environment("COLUMNS=1e9", _env(COLUMNS="1000000000")),
    Environment("stdin closed", _stream("stdin", "closed")),
    Environment("stdout closed", _stream("stdout", "closed"), must=False),
    Environment("stderr closed", _stream("stderr", "closed"), stderr_works=False),
    Environment("all streams closed", _closed, must=False, stderr_works=False),
    Environment("current folder removed", _gone, but=("verify", "export")),
    Environment("current folder not readable", _locked),
    Environment("umask 0777", lambda s, w: replace(s, umask=0o777)),
    Environment("umask 0777, not root", lambda s, w: replace(_user(s, w), umask=0o777), must=False),
    Environment("PATH empty", _env(PATH="")),
    Environment("no PATH", _env(PATH=None)),
    Environment("modules of the user's in the current folder", _own_numpy),
    Environment("PYTHONPATH with empty and relative entries", _python_path),
    Environment("TZ odd", _env(TZ="<+99>-99:99:99")),
    Environment("proxies", _env(http_proxy="http://127.0.0.1:9", HTTPS_PROXY="http://[::1]:9", NO_PROXY="*")),
    Environment("PYTHONWARNINGS=error", _env(PYTHONWARNINGS="error::UserWarning")),
    Environment("PYTHONOPTIMIZE=2", _env(PYTHONOPTIMIZE="2"), but=("recipe",)),
    Environment("PYTHONDEVMODE", _env(PYTHONDEVMODE="1"), stderr_works=False),
    Environment("PYTHONSAFEPATH, no site", _env(PYTHONSAFEPATH="1", PYTHONNOUSERSITE="1")),
    Environment("no variables", _homeless(dict.fromkeys(os.environ))),
    Environment("OMP_NUM_THREADS=garbage", _env(OMP_NUM_THREADS="many")),
)  # fmt: skip


def _pairs() -> list[tuple[Environment, Command]]:
    pairs = [(environment, command) for environment in ENVIRONMENTS for command in COMMANDS]
    pairs = [pair for pair in pairs if not pair[1].slow or pair[0].name.startswith(("no ", "TMPDIR", "HOME", "ulimit"))]
    random.Random(0).shuffle(pairs)
    return pairs


PAIRS = _pairs()
COUNT = len(PAIRS)


def prepare(folder: Path) -> None:
    stored.make(folder, "small")
    shutil.copy(folder / "small" / stored.NAME, folder / "a.onnx")
    (folder / "net.py").write_text(
        "import torch, edgefc\nfrom torch import nn\n\n\ndef model():\n    torch.manual_seed(1)\n"
        "    last = nn.Linear(16, 3)\n"
        "    layers = edgefc.CirculantLinear(16, 16, seed=1), last\n"
        "    return nn.Sequential(*layers), torch.linspace(-1, 1, 32).reshape(2, 16)\n"
    )
    for path in (folder, *folder.rglob("*")):  # another user reads them
        path.chmod(0o755 if path.is_dir() else 0o644)
    usual = {}
    for command in COMMANDS:
        if command.same:
            done = forked(_argv(command, folder, folder), Setting(cwd=ROOT), folder / "said").done()
            usual[command.argv] = sorted(numbers(done.out))
    (folder / "usual.json").write_text(json.dumps(usual))


def case(rng: random.Random, number: int, folder: Path) -> Case:
    environment, command = PAIRS[number % len(PAIRS)]
    return Case(f"{command.argv} with {environment.name}", partial(_act, environment, command, folder), limit_s=900)


def _act(environment: Environment, command: Command, folder: Path, work: Path) -> Outcome:
    if os.geteuid() != 0 or not mounts.alone():
        return Outcome(OK, "not tried: root only")
    (work / "out").mkdir()
    setting = environment.change(Setting(), work)
    setting = replace(setting, cwd=setting.cwd or work)
    done = fresh(_argv(command, folder, work / "out"), setting, work.parent / "said").done()
    return first(
        lambda: judged(done, _codes(environment, command), stderr_works=environment.stderr_works),
        lambda: _same(environment, command, folder, done),
        lambda: _hidden(work / "out"),
    )


def _argv(command: Command, folder: Path, out: Path) -> list[str]:
    return [word.replace("FOLDER", str(folder)).replace("OUT", str(out)) for word in command.argv.split()]


def _codes(environment: Environment, command: Command) -> set[int]:
    must = environment.must and not command.argv.startswith(environment.but or ("nothing",))
    codes = {command.code} if must else {command.code, 1, 2, 3}
    return codes | ({-signal.SIGXCPU} if environment.name == "ulimit -t 1" else set())


def _same(environment: Environment, command: Command, folder: Path, done: Done) -> Outcome | None:
    """A fault if a number is missing or truncated."""
    if not command.same or done.code != 0 or not environment.stderr_works or "closed" in environment.name:
        return None
    usual = set(json.loads((folder / "usual.json").read_text())[command.argv])
    missing = usual - numbers(done.out)
    return (
        Outcome("wrong value", f"not shown: {', '.join(sorted(missing)[:9])} in {done.out[:300]!r}")
        if missing
        else None
    )


def _hidden(out: Path) -> Outcome | None:
    names = [name for name in os.listdir(out) if name.startswith(".")]
    return Outcome("left behind", ", ".join(names)) if names else None
