"""SessionOptions: how a model is run. One value for Session, the probes, profile() and the browser."""

from __future__ import annotations

from dataclasses import dataclass

from edgefc.errors import UsageError
from edgefc.runtime import native as kernels
from edgefc.runtime.presets import settings

ACTIVATION_DTYPES = ("float32", "int8")


@dataclass(frozen=True)
class SessionOptions:
    """Session's arguments of the same names.

    Raises:
        UsageError: one of them has a value that there is not.
    """

    preset: str = "latency"
    native: str = "auto"
    threads: int = 1
    activation_dtype: str = "float32"

    def __post_init__(self) -> None:
        settings(self.preset, self.threads)
        if self.activation_dtype not in ACTIVATION_DTYPES:
            choices = ", ".join(ACTIVATION_DTYPES)
            raise UsageError(f"activation_dtype is {self.activation_dtype!r}. Choose one of: {choices}.")
        kernels.check_mode(self.native)

    @property
    def settings(self) -> dict[str, str | bool | int]:
        """What the preset and the thread count set, by onnxruntime's names; and int8 activations, for the kernels."""
        own = {"edgefc.activations": self.activation_dtype} if self.rounds_activations else {}
        return {**settings(self.preset, self.threads), **own}

    @property
    def rounds_activations(self) -> bool:
        """Whether activations are int8, which only the native kernels compute."""
        return self.activation_dtype != "float32"
