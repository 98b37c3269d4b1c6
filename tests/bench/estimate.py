"""Fit the constants of edgefc estimate on this machine, and print the errors on held-out cells.

    python tests/bench/estimate.py --cells cells.json            # measure, some minutes
    python tests/bench/estimate.py --cells cells.json --write    # fit, and write devices/estimating/constants.json

A cell is one layer at one width and batch size, with its portable body on one thread. Latency is the first decile of
the thread's CPU time over its runs, as on an idle machine. Memory is the peak beyond that of onnxruntime. Every second
cell, in an order drawn with a seed, is used for the fit; the other cells are held out.
"""

import argparse
import json
import platform
import random
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from scipy.optimize import least_squares, nnls
from torch import nn
from tqdm import tqdm

import edgefc
from edgefc.devices.estimating.estimate import (
    CONSTANTS,
    Calibration,
    Constants,
    Spread,
    memory_bytes,
    memory_parts,
    run_seconds,
    step_seconds,
    weight_speed,
)
from edgefc.devices.estimating.rates import Rates, of_this_machine
from edgefc.devices.estimating.work import Step, Work, work_of
from edgefc.export import export
from edgefc.files import write_text
from edgefc.runtime import Session
from edgefc.runtime.inputs import Wanted, feeds_for
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes.child import ask
from edgefc.runtime.probes.contracts import MemoryQuestion, ModelToRun
from edgefc.runtime.probes.machine import environment
from edgefc.runtime.probes.null_model import null_model
from edgefc.tables import print_table

WIDTHS, BATCHES = (256, 512, 768, 1024, 2048, 4096), (1, 16, 64)
RANGES = {  # start value, minimum and maximum of each constant: roughly the range of a real core
    "run_cycles": (10000.0, 1000.0, 60000.0), "step_cycles": (3000.0, 100.0, 30000.0),
    "product_cycles": (300.0, 1.0, 3000.0), "efficiency": (0.8, 0.3, 1.05), "rows_half": (4.0, 0.1, 64.0),
    "l2_bytes_per_cycle": (24.0, 8.0, 64.0), "l3_bytes_per_cycle": (0.5, 0.1, 1.0), "memory_share": (0.8, 0.2, 1.2),
    "element_bytes_per_cycle": (8.0, 1.0, 64.0), "function_bytes_per_cycle": (2.0, 0.1, 32.0),
    "move_bytes_per_cycle": (4.0, 0.5, 32.0),
}  # fmt: skip
TIMED = tuple(RANGES)
START, LEAST, MOST = (np.array(each) for each in zip(*RANGES.values(), strict=True))
L2, L3 = TIMED.index("l2_bytes_per_cycle"), TIMED.index("l3_bytes_per_cycle")  # L3 is fitted as a share of L2
HELD = ("memory_fixed_bytes", "memory_per_stored_byte", "memory_per_folded_byte")


def layers(n: int) -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Layers with about n inputs and outputs, and the shape of one input."""
    side = max(int(n**0.5) // 2, 8)
    made: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        "dense": (nn.Linear(n, n), (n,)),
        "dense relu dense": (nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n // 4)), (n,)),
        "dense gelu": (nn.Sequential(nn.Linear(n, n // 2), nn.GELU()), (n,)),
        "circulant": (edgefc.CirculantLinear(n, n), (n,)),
        "circulant blocks": (edgefc.CirculantLinear(n, n // 2, block=n // 8), (n,)),
        "bilinear": (edgefc.BilinearLinear(n, n), (n,)),
        "bilinear terms": (edgefc.BilinearLinear(n, n, terms=4), (n,)),
        "eugen": (edgefc.EUGenLinear(n, n, features=64), (n,)),
        "tied ffn": (edgefc.TiedFFN(n // 2, n), (n // 2,)),
        "convolution": (nn.Conv2d(16, 32, 3), (16, side, side)),
    }
    if n <= 2048:
        made["prp"] = (edgefc.PRPLinear(n, n), (n,))
        made["deep dense"] = (nn.Sequential(*(each for _ in range(6) for each in (nn.Linear(n, n), nn.ReLU()))), (n,))
    made["deep circulant"] = (
        nn.Sequential(*(each for _ in range(4) for each in (edgefc.CirculantLinear(n, n), nn.ReLU()))), (n,)
    )  # fmt: skip
    made["mixed"] = (
        nn.Sequential(
            edgefc.CirculantLinear(n, n // 2), nn.ReLU(), edgefc.BilinearLinear(n // 2, n), nn.GELU(),
            edgefc.EUGenLinear(n, n // 4, features=64), nn.Linear(n // 4, 10),
        ), (n,),
    )  # fmt: skip
    return made


def measured(widths: list[int]) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        null = Path(folder) / "null.onnx"
        null.write_bytes(null_model())
        empty = _peak(null, 1)
        for n in tqdm(widths, unit="width", disable=None):
            for name, (layer, shape) in layers(n).items():
                path = Path(folder) / f"{name} {n}.onnx"
                export(layer.eval(), torch.randn(2, *shape), path)
                held = _peak(path, 1) - empty
                for batch in BATCHES:
                    work = work_of(path, batch)
                    cells.append({
                        "layer": name, "n": n, "batch": batch, "work": asdict(work), "seconds": _seconds(path, batch),
                        "memory_bytes": held if batch == 1 else None,
                    })  # fmt: skip
                path.unlink()
    return cells


def _seconds(path: Path, batch: int) -> float:
    session = Session(path, native="off")
    call = session.bound(feeds_for(session.inputs, Wanted(batch))[0])
    call()
    taken, end = [], time.perf_counter() + 0.25
    while len(taken) < 12 or (time.perf_counter() < end and len(taken) < 3000):
        start = time.thread_time_ns()
        call()
        taken.append(time.thread_time_ns() - start)
    return float(np.percentile(taken, 10)) / 1e9


def _peak(path: Path, batch: int) -> int:
    question = MemoryQuestion(ModelToRun(str(path), SessionOptions(native="off")), Wanted(batch))
    found = ask(question, about=path.name).memory
    assert found is not None
    return found.peak_bytes - found.imported.held_bytes


def work_from(told: dict[str, Any]) -> Work:
    return Work(**{**told, "steps": tuple(Step(**step) for step in told["steps"])})


def seconds(work: Work, rates: Rates, constants: Constants) -> float:
    speed = weight_speed(work, rates, constants, 1)
    return run_seconds(rates, constants) + sum(step_seconds(step, rates, constants, speed, 1)[0] for step in work.steps)


def fitted(cells: list[dict[str, Any]], rates: Rates) -> Constants:
    works = [work_from(cell["work"]) for cell in cells]
    times = np.array([cell["seconds"] for cell in cells])

    def constants(logs: Any) -> Constants:
        values = np.exp(logs)
        values[L3] *= values[L2]
        return Constants(**dict(zip(TIMED, values.tolist(), strict=True)), **dict.fromkeys(HELD, 0.0))

    def off(logs: Any) -> Any:
        chosen = constants(logs)
        return np.log([seconds(work, rates, chosen) for work in works] / times)

    timed = constants(
        least_squares(
            off, np.log(START), bounds=(np.log(LEAST), np.log(MOST)), loss="soft_l1", f_scale=0.2, max_nfev=60
        ).x
    )
    known = [(work, cell["memory_bytes"]) for work, cell in zip(works, cells, strict=True) if cell["memory_bytes"]]
    rows = np.array([memory_parts(work) for work, _ in known], float)
    held = np.array([size - work.live_bytes for work, size in known], float)
    share, _ = nnls(rows / held[:, None], np.ones(len(held)))
    return timed.model_copy(update=dict(zip(HELD, share.tolist(), strict=True)))


def spread(ratios: list[float]) -> Spread:
    low, middle, high = (float(each) for each in np.percentile(ratios, (10, 50, 90)))
    return Spread(cells=len(ratios), least=min(ratios), p10=low, median=middle, p90=high, most=max(ratios))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cells", type=Path, required=True, help="file with the measured cells; written if it does not exist"
    )
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)))
    parser.add_argument("--write", action="store_true", help="write devices/estimating/constants.json")
    args = parser.parse_args()
    if not args.cells.exists():
        torch.manual_seed(0)
        rates = max((of_this_machine() for _ in range(5)), key=lambda each: each.clock_hz)
        cells = measured([int(n) for n in args.widths.split(",")])
        write_text(args.cells, json.dumps({"rates": asdict(rates), "cells": cells}))
    told = json.loads(args.cells.read_text())
    rates, cells = Rates(**told["rates"]), told["cells"]
    random.Random(0).shuffle(cells)
    fit, check = cells[::2], cells[1::2]
    constants = fitted(fit, rates)
    off = [seconds(work_from(cell["work"]), rates, constants) / cell["seconds"] for cell in check]
    held = [
        memory_bytes(work_from(cell["work"]), constants) / cell["memory_bytes"]
        for cell in check
        if cell["memory_bytes"]
    ]
    here = environment()
    calibration = Calibration(
        machine=f"{here['machine']}, {here['cpu']}, {'virtual' if here['virtual'] else 'bare'}", date=str(date.today()),
        versions={"onnxruntime": onnxruntime.__version__, "numpy": np.__version__, "python": platform.python_version()},
        fitted_cells=len(fit), constants=constants, latency=spread(off), memory=spread(held),
    )  # fmt: skip
    rows = [
        (cell["layer"], str(cell["n"]), str(cell["batch"]), f"{cell['seconds'] * 1e6:.1f}", f"{ratio:.2f}")
        for cell, ratio in sorted(zip(check, off, strict=True), key=lambda each: each[1])
    ]
    print_table(("layer", "n", "batch", "measured us", "estimate / measured"), rows)
    print(calibration.model_dump_json(indent=2))
    if args.write:
        write_text(CONSTANTS, calibration.model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    main()
