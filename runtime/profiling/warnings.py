"""Reasons why a value may be unreliable, as sentences."""

from collections.abc import Sequence

from edgefc.runtime.probes import stats
from edgefc.runtime.profiling.parts import Memory, Steady

MAX_REL_MAD = 0.05  # as a part of the median; half of the samples are within it
MAX_DRIFT = 0.05  # the change from the first to the second half of the rounds
FEW_SAMPLES = 30  # with fewer, the p90 is one of the two or three slowest runs
MAX_STEP = 0.01  # timer step as a part of the median
MAX_HARNESS = 0.10  # the null model's latency as a part of the median
MAX_OTHER_CORES = 0.10  # the number of cores that other programs used


def of_machine(emulated: bool | None) -> list[str]:
    return ["the CPU is emulated, so the times are not those of a real one"] if emulated else []


def of_versions(others: str | None) -> list[str]:
    """`others` is Session's message about a file whose version of the domain differs from that of the kernels."""
    return [] if others is None else [f"the file {others}, so its own functions ran"]


def of_steady(steady: Steady, null_ns: float) -> list[str]:
    drift = stats.drift([r.samples_ns for r in steady.rounds])
    cold = next((up.runs for up in steady.warm_ups if not up.settled), None)
    median = steady.median_ns
    checks = (
        (
            steady.rel_mad > MAX_REL_MAD,
            f"the spread is {steady.rel_mad:.0%} of the median; close other programs, or increase --time",
        ),
        (
            abs(drift) > MAX_DRIFT,
            f"the second half of the samples was {abs(drift):.0%} {'slower' if drift > 0 else 'faster'} than the first",
        ),
        (
            steady.sample_count < FEW_SAMPLES,
            f"only {steady.sample_count} samples; increase --time",
        ),
        (cold is not None, f"times were still falling after {cold} warm-up runs"),
        (
            steady.timer_step_ns > MAX_STEP * median,
            f"the clock steps by {steady.timer_step_ns} ns, which is {steady.timer_step_ns / median:.0%} of the median",
        ),
        (
            null_ns > MAX_HARNESS * median,
            f"a model that does nothing takes {null_ns / median:.0%} of this time",
        ),
        (
            (steady.other_cores or 0) > MAX_OTHER_CORES,
            f"other programs or virtual machines used {steady.other_cores or 0:.1f} cores during the measurement",
        ),
    )
    return [sentence for doubtful, sentence in checks if doubtful]


def of_memory(memory: Memory, above_bytes: int, noise_bytes: int, file_bytes: int) -> list[str]:
    """`noise_bytes` is the difference between the peaks of several launches of the null model."""
    checks = (
        (not memory.peak_reset, "the kernel did not reset the peak, so the peak includes the import of onnxruntime"),
        (memory.swapped_bytes > 0, f"{memory.swapped_bytes} bytes were swapped out, which the peak does not include"),
        (
            abs(above_bytes) <= noise_bytes,
            f"the peak above the baseline is within the {noise_bytes} bytes by which runs of the null model differ",
        ),
        (
            above_bytes + noise_bytes < file_bytes,
            "the peak above the baseline is below the file's size: not all of the file was read",
        ),
    )
    return [sentence for doubtful, sentence in checks if doubtful]


def of_launches(samples_ns: Sequence[int], planned: int) -> list[str]:
    count = len(samples_ns)
    return (
        [f"only {count} of {planned} launches were made within the time limit for loading"] if count < planned else []
    )
