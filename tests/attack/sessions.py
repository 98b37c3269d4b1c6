"""Sessions in many threads, in forked processes and in large numbers: right answers, and no memory leak."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import edgefc
from edgefc.runtime import Session
from tests.attack.commands import ROOT, Setting, forked
from tests.attack.harness import Case
from tests.attack.outcome import Fault, Outcome
from tests.attack.sources import WIDTH

Array = NDArray[np.float32]
THREADS, RUNS = 8, 120
OPENED = 1000
_GROWTH = 24 << 20  # accepted growth in bytes over 1,000 sessions, after the first 100
_ROWS = 5
MODELS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: nn.Linear(WIDTH, WIDTH),
    "circulant": lambda: edgefc.CirculantLinear(WIDTH, WIDTH, seed=1),
    "rademacher": lambda: edgefc.PRPLinear(WIDTH, WIDTH, distribution="rademacher", seed=1),
    "gaussian": lambda: edgefc.PRPLinear(WIDTH, WIDTH, distribution="gaussian", seed=1),
    "eugen": lambda: edgefc.EUGenLinear(WIDTH, WIDTH, features=8),
    "bilinear": lambda: edgefc.BilinearLinear(WIDTH, WIDTH),
    "tied": lambda: edgefc.TiedFFN(WIDTH, 4 * WIDTH),
}
HOW = ("one session for all threads", "a session in each thread", "after a fork", "opened and closed")
_CASES = [(model, how) for how in HOW for model in MODELS]
COUNT = len(_CASES)


def prepare(folder: Path) -> None:
    for name in MODELS:
        line = ("export", f"tests.attack.sessions:{name}", "-o", folder / f"{name}.onnx")
        done = forked(line, Setting(cwd=ROOT), folder / "said").done()
        if done.code != 0:
            raise RuntimeError(f"{name} cannot be exported: {done.end}")
    x = torch.randn(_ROWS, 3, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(1)
    with torch.no_grad():
        answers = {name: torch.stack([built(name)(rows) for rows in x]).numpy() for name in MODELS}
    for each, value in {"x": x.numpy(), **answers}.items():
        np.save(folder / f"{each}.npy", value)


def built(name: str) -> nn.Module:
    torch.manual_seed(7)
    return MODELS[name]().eval()


def __getattr__(name: str) -> Callable[[], object]:
    """The SOURCE arguments, tests.attack.sessions:circulant and so on."""
    if name not in MODELS:
        raise AttributeError(name)
    return lambda: (built(name), torch.zeros(2, WIDTH))


def case(rng: random.Random, number: int, folder: Path) -> Case:
    model, how = _CASES[number % len(_CASES)]
    native = rng.choice(("auto", "off"))
    return Case(f"{model}, native {native}: {how}", partial(_act, model, how, native, folder), limit_s=600)


def _act(model: str, how: str, native: str, folder: Path, work: Path) -> Outcome | None:
    x, right = np.load(folder / "x.npy"), np.load(folder / f"{model}.npy")
    open_session = partial(Session, folder / f"{model}.onnx", native=native)
    if how == HOW[0]:
        shared = open_session()
        _threads(lambda: shared, x, right)
    elif how == HOW[1]:
        _threads(open_session, x, right)
    elif how == HOW[2]:
        _forks(open_session, x, right)
    else:
        _many(open_session, x, right)
    return None


def _check(session: Session, x: Array, right: Array) -> None:
    y = session.run({session.inputs[0].name: x})[session.outputs[0].name]
    if not np.allclose(y, right, atol=1e-4, rtol=1e-3):
        raise Fault("wrong value", f"off by {np.abs(y - right).max()}")


def _threads(session_of: Callable[[], Session], x: Array, right: Array) -> None:
    raised: list[BaseException] = []

    def runs(index: int) -> None:
        try:
            session = session_of()
            for count in range(RUNS):
                row = (index + count) % _ROWS
                _check(session, x[row], right[row])
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=runs, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def _forks(open_session: Callable[[], Session], x: Array, right: Array) -> None:
    """A child process runs its parent's session and its own session, and so does a grandchild."""
    session = open_session()
    _check(session, x[0], right[0])
    for _ in range(8):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for each in (session, open_session()):
                    for row in range(_ROWS):
                        _check(each, x[row], right[row])
                code = 0
            finally:
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            raise Fault("wrong value" if status == 1 else "crash", f"a forked process ended with {status}")
    _check(session, x[0], right[0])


def _many(open_session: Callable[[], Session], x: Array, right: Array) -> None:
    before = 0
    for count in range(OPENED + 100):
        _check(open_session(), x[0], right[0])
        if count == 99:
            before = _held()
    if _held() - before > _GROWTH:
        raise Fault("wrong value", f"{OPENED} sessions left {(_held() - before) >> 20} MiB")


def _held() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
