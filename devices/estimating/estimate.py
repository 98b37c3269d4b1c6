"""estimate(): predict latency and memory of a model on a device that is not available, with a roofline model per step.

The time of a step is an overhead plus the longer of two times: its arithmetic at the device's rate, and the transfer
of its weights from the cache or memory that holds them. The constants are in constants.json. tests/bench/estimate.py
fitted them on one machine, and recorded the errors on held-out cells in the same file. For any other device the result
is an extrapolation, and is marked as such.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from edgefc.devices.estimating.rates import Rates
from edgefc.devices.estimating.work import Step, Work
from edgefc.errors import UsageError

CONSTANTS = Path(__file__).parent / "constants.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Constants(_Part):
    """The fitted constants, for one core.

    run_cycles, step_cycles, product_cycles   overhead of a run, of a step, and of each further product of a batched one
    efficiency, rows_half                     a product of r rows reaches efficiency * r / (r + rows_half) of the peak
    *_bytes_per_cycle                         rates of caches and of element-wise and moving operators
    memory_*                                  see memory_bytes()
    """

    run_cycles: float
    step_cycles: float
    product_cycles: float
    efficiency: float
    rows_half: float
    l2_bytes_per_cycle: float
    l3_bytes_per_cycle: float
    memory_share: float
    element_bytes_per_cycle: float
    function_bytes_per_cycle: float
    move_bytes_per_cycle: float
    memory_fixed_bytes: float
    memory_per_stored_byte: float
    memory_per_folded_byte: float


class Spread(_Part):
    """Quantiles of predicted / measured on held-out cells."""

    cells: int
    least: float
    p10: float
    median: float
    p90: float
    most: float


class Calibration(_Part):
    """The content of constants.json."""

    machine: str
    date: str
    versions: dict[str, str]
    fitted_cells: int
    constants: Constants
    latency: Spread
    memory: Spread

    @classmethod
    def read(cls) -> "Calibration":
        return cls.model_validate_json(CONSTANTS.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Share:
    """The part of one torch layer in an estimate. The name is "" for operations of the model itself.

    weight_bytes are the weight bytes read in a run. held_bytes are the weight bytes in memory; a shared weight is
    counted at the first layer that uses it. bound is "overhead", "arithmetic" or "weights".
    """

    layer: str
    seconds: float
    flop: int
    weight_bytes: int
    held_bytes: int
    bound: str


@dataclass(frozen=True)
class Estimate:
    """A prediction, not a measurement.

    seconds is the overhead of a run plus the sum over the layers. low_seconds to high_seconds is the band that
    contained 80 % of the held-out cells on the machine of the fit.
    """

    device: str
    file: str
    batch: int
    threads: int
    seconds: float
    low_seconds: float
    high_seconds: float
    memory_bytes: int
    fits: bool | None
    extrapolated: bool
    layers: tuple[Share, ...]


def estimate(work: Work, rates: Rates, *, threads: int = 1, calibration: Calibration | None = None) -> Estimate:
    """Predict the latency of one run, s, and the memory that the model adds to that of onnxruntime, bytes.

    Raises:
        UsageError: `threads` is not between 1 and the number of cores in the fastest cluster.
    """
    if not 1 <= threads <= rates.cores:
        raise UsageError(
            f"threads is {threads}; {rates.device} has {rates.cores} equal cores. Give 1 to {rates.cores}."
        )
    known = calibration or Calibration.read()
    constants = known.constants
    speed = weight_speed(work, rates, constants, threads)
    parts: dict[str, list[tuple[Step, float, str]]] = {}
    for step in work.steps:
        seconds, bound = step_seconds(step, rates, constants, speed, threads)
        parts.setdefault(step.layer, []).append((step, seconds, bound))
    layers = tuple(_share(layer, each) for layer, each in parts.items())
    seconds = run_seconds(rates, constants) + math.fsum(layer.seconds for layer in layers)
    memory = memory_bytes(work, constants)
    return Estimate(
        device=rates.device, file=work.file, batch=work.batch, threads=threads, seconds=seconds,
        low_seconds=seconds / known.latency.p90, high_seconds=seconds / known.latency.p10, memory_bytes=memory,
        fits=None if rates.memory_bytes is None else memory < rates.memory_bytes,
        extrapolated=not rates.measured_here, layers=layers,
    )  # fmt: skip


def weight_speed(work: Work, rates: Rates, constants: Constants, threads: int) -> float:
    """The rate of reading weights, bytes/s: that of the smallest of L2, L3 and memory that holds the data of a run."""
    working_set = work.weight_bytes + work.live_bytes
    if working_set <= rates.l2_bytes:
        return constants.l2_bytes_per_cycle * rates.clock_hz * threads
    if working_set <= rates.l3_bytes:
        return constants.l3_bytes_per_cycle * rates.clock_hz * threads
    one = constants.memory_share * rates.traffic_bytes_per_s
    return one if threads == 1 else min(one * threads, rates.total_bytes_per_s or one)


def run_seconds(rates: Rates, constants: Constants) -> float:
    """The overhead of a run, s."""
    return constants.run_cycles / rates.clock_hz


def step_seconds(step: Step, rates: Rates, constants: Constants, speed: float, threads: int) -> tuple[float, str]:
    """The time of one step, s, and its bound: "overhead", "arithmetic" or "weights"."""
    overhead = constants.step_cycles / rates.clock_hz
    if step.kind == "view":
        return overhead, "overhead"
    if step.kind == "product":
        reached = constants.efficiency * step.rows / (step.rows + constants.rows_half) if step.rows else 1.0
        cycles = step.flop / (rates.flop_per_cycle * reached)
        cycles += constants.product_cycles * (step.count - 1)
    else:
        per_cycle = {
            "element": constants.element_bytes_per_cycle, "function": constants.function_bytes_per_cycle,
            "move": constants.move_bytes_per_cycle,
        }[step.kind]  # fmt: skip
        cycles = (step.activation_bytes + step.weight_bytes) / per_cycle
    arithmetic, transfer = cycles / rates.clock_hz / threads, step.weight_bytes / speed
    longest = max(overhead, arithmetic, transfer)
    bound = "overhead" if longest == overhead else "arithmetic" if longest == arithmetic else "weights"
    return overhead + max(arithmetic, transfer), bound


def memory_parts(work: Work) -> tuple[int, int, int]:
    """The inputs of the memory model: 1, bytes of the files, and bytes of weights computed or copied at load."""
    return 1, work.file_bytes, max(work.held_bytes - work.file_bytes, 0)


def memory_bytes(work: Work, constants: Constants) -> int:
    """The peak memory that the model adds to that of onnxruntime, at load or in a run, bytes."""
    shares = (constants.memory_fixed_bytes, constants.memory_per_stored_byte, constants.memory_per_folded_byte)
    held = math.fsum(share * part for share, part in zip(shares, memory_parts(work), strict=True))
    return int(held) + work.live_bytes


def _share(layer: str, steps: list[tuple[Step, float, str]]) -> Share:
    by_bound: dict[str, float] = {}
    for _, seconds, bound in steps:
        by_bound[bound] = by_bound.get(bound, 0.0) + seconds
    return Share(
        layer=layer, seconds=math.fsum(by_bound.values()), flop=sum(step.flop for step, _, _ in steps),
        weight_bytes=sum(step.weight_bytes for step, _, _ in steps),
        held_bytes=sum(step.held_bytes for step, _, _ in steps),
        bound=max(by_bound, key=lambda each: by_bound[each]),
    )  # fmt: skip
