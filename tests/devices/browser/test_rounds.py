"""The page's timing loop does what runtime/probes/rounds.py does: both are given the same clock and the same runs."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgefc.devices.browser import facts
from edgefc.runtime.probes.contracts import Plan, Timed
from edgefc.runtime.probes.plain import read
from edgefc.runtime.probes.rounds import time_models

US, MS = 1_000, 1_000_000
STEADY = Path(facts.__file__).parent / "page" / "steady.js"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="THE PAGE'S TIMING LOOP IS NOT TESTED: there is no node")

SCRIPT = """
import { timeModels } from "%s";
const { costs, plan, step, first } = JSON.parse(process.argv[1]);
let now = 0;
const clock = { wallNs: () => Math.floor(now / (step || 1)) * (step || 1) };
const settling = () => Math.max(0, 1000 - Math.floor(now / 1e5));
const runs = costs.map((cost) => async () => { now += (now < first ? first : cost) + settling(); });
console.log(JSON.stringify(await timeModels(runs, plan, step, clock)));
"""


def in_javascript(costs: list[int], plan: dict[str, int], step: int, first: int = 0) -> Any:
    assert NODE is not None
    told = json.dumps({"costs": costs, "plan": plan, "step": step, "first": first})
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", SCRIPT % STEADY.as_uri(), told], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(read(Timed, one) for one in found)  # the form of the Python probe's
    return found


class FakeClock:
    now = 0

    def wall_ns(self) -> int:
        return self.now

    cpu_ns = wall_ns


@needs_node
@pytest.mark.parametrize("plan", [(20 * MS, 4, 5000), (50 * MS, 3, 30), (MS, 1, 9)])
def test_the_same_samples_as_in_python(plan: tuple[int, int, int]) -> None:
    """With a clock that steps by nothing, so that one run is one sample. JavaScript runs each model once before."""
    costs, names = [30 * US, 700 * US, 12 * MS], ("time_ns", "rounds", "samples")
    found = in_javascript(costs, dict(zip(names, plan, strict=True)), 0)

    clock = FakeClock()

    def run_of(cost: int) -> Any:
        def run() -> None:
            clock.now += cost + max(0, 1000 - clock.now // 100_000)

        return run

    expected = time_models([run_of(cost) for cost in costs], Plan(*plan), clock)
    for mine, theirs in zip(found, expected, strict=True):
        assert abs(mine["warm_up"]["run_ns"] - theirs.warm_up.run_ns) <= 20
        assert mine["warm_up"]["settled"] == theirs.warm_up.settled
        assert mine["warm_up"]["runs"] == theirs.warm_up.runs + 1
        assert [len(b["samples_ns"]) for b in mine["blocks"]] == [len(b.samples_ns) for b in theirs.blocks]
        assert [b["runs"] for b in mine["blocks"]] == [b.runs for b in theirs.blocks]
        for block, other in zip(mine["blocks"], theirs.blocks, strict=True):
            assert all(abs(a - b) <= 20 for a, b in zip(block["samples_ns"], other.samples_ns, strict=True))
        assert mine["runs_per_sample"] == 1


@needs_node
@pytest.mark.parametrize("step", [5 * US, 100 * US, MS])
def test_a_coarse_clock(step: int) -> None:
    """The samples are right to half a per cent although the clock steps by more than a run takes."""
    plan = {"time_ns": 400 * MS, "rounds": 2, "samples": 5000}
    for cost, timed in zip((17 * US, 3 * MS), in_javascript([17 * US, 3 * MS], plan, step), strict=True):
        samples = [sample for block in timed["blocks"] for sample in block["samples_ns"]]
        assert samples and all(abs(sample - cost) <= 0.006 * cost for sample in samples)
        k = timed["runs_per_sample"]
        assert k * cost >= 0.99 * facts.SAMPLE_STEPS * step or k == 1
        assert all(block["runs"] % k == 0 for block in timed["blocks"])


@needs_node
def test_an_interruption_of_the_first_run() -> None:
    """It makes a run look as long as a sample should be; single runs then look like nothing to a coarse clock."""
    plan = {"time_ns": 400 * MS, "rounds": 2, "samples": 5000}
    (timed,) = in_javascript([17 * US], plan, 100 * US, first=30 * MS)
    samples = [sample for block in timed["blocks"] for sample in block["samples_ns"]]
    assert all(abs(sample - 17 * US) <= 0.006 * 17 * US for sample in samples)
    assert timed["warm_up"]["settled"] and timed["warm_up"]["runs"] < 200_000
