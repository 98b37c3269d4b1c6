"""SessionOptions: how a model is run. Session, the probes, profile() and the browser share this type."""

from __future__ import annotations

from dataclasses import dataclass

from edgefc.errors import UsageError
from edgefc.runtime import native as kernels
from edgefc.runtime.presets import settings

ACTIVATION_DTYPES = ("float32", "int8")


@dataclass(frozen=True)
class SessionOptions:
    """The arguments of Session with these names.

    Raises:
        UsageError: an option has an invalid value.
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
        """The settings of the preset and thread count, by onnxruntime's names, and int8 activations for the kernels."""
        own = {"edgefc.activations": self.activation_dtype} if self.rounds_activations else {}
        return {**settings(self.preset, self.threads), **own}

    @property
    def rounds_activations(self) -> bool:
        """Whether activations are int8. Only the native kernels support this."""
        return self.activation_dtype != "float32"
