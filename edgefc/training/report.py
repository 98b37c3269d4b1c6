"""What distil() did."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the student.

    Attributes:
        step     optimizer steps before it, those of the trials of learning rates included
        seconds  training time before it
        loss     of the outputs on the held-out batches: the mean over the outputs of 1 - mean cosine of the vectors
                 along the last axis, of the relative squared error for outputs of single numbers. None without
                 held-out batches.
        metric   the user's metric; None without one
    """

    step: int
    seconds: float
    loss: float | None
    metric: float | None

    def __str__(self) -> str:
        parts = [f"{name} {value:.4g}" for name in ("loss", "metric") if (value := getattr(self, name)) is not None]
        return ", ".join(parts)


@dataclass(frozen=True)
class DistilReport:
    """What distil() did.

    Attributes:
        before       the student as it was given
        after        the student as it is now: the best of all evaluations
        evaluations  all evaluations, in their order
        lr           the peak of the learning rate
        tried        the learning rates that were tried, each with the evaluation at the end of its trial
        steps        optimizer steps, those of the trials included
        seconds      training time, that before an interruption included
        epochs       how often the batches were read
        matched      the names of the modules whose outputs were matched, beside the outputs of the model
        quantised    how many stored layers were trained through their codes
        stopped      why training ended: "steps", "time", "early" (no evaluation was better for a
                     while, with lower rates either)
    """

    before: Evaluation
    after: Evaluation
    evaluations: tuple[Evaluation, ...]
    lr: float
    tried: tuple[tuple[float, Evaluation], ...]
    steps: int
    seconds: float
    epochs: float
    matched: tuple[str, ...]
    quantised: int
    stopped: str

    def __str__(self) -> str:
        return (
            f"distilled in {self.seconds:.0f} s, {self.steps} steps and {self.epochs:.1f} epochs at a learning rate "
            f"of {self.lr:g}: {self.before} -> {self.after}"
        )

    def record(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)
