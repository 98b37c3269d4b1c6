"""The answers of a page about itself and about a model, and the error for an invalid answer.

The answers of probes have the same types as on every device (runtime/probes/contracts.py). devices/answers.py checks
them.
"""

from dataclasses import dataclass
from typing import Annotated

from edgefc.devices.answers import Answers
from edgefc.errors import DeviceError
from edgefc.runtime.probes.plain import Range
from edgefc.runtime.signature import TensorInfo

_SLACK = 1.05  # the allowed ratio of a page's clock to this machine's


@dataclass(frozen=True)
class Facts:
    """The facts that a browser reports about itself when its page connects."""

    user_agent: str
    brands: tuple[str, ...]
    platform: str | None
    platform_version: str | None
    architecture: str | None
    bitness: str | None
    model: str | None
    mobile: bool | None
    cores: Annotated[int, Range(1, 4096)] | None
    isolated: bool
    secure: bool
    timer_step_ns: Annotated[int, Range(1, 1 << 62)]


@dataclass(frozen=True)
class PageInput:
    """One input of a model, as the page reports it. An open size is its name. The type is "?" if it is not a tensor."""

    name: str
    type: str
    shape: tuple[Annotated[int, Range(0, 1 << 40)] | str, ...]

    def tensor_info(self) -> TensorInfo:
        dtype = {"string": "str"}.get(self.type, self.type)
        return TensorInfo(
            self.name, dtype, tuple(size if isinstance(size, int) else size or "?" for size in self.shape)
        )


@dataclass(frozen=True)
class PageInputs:
    """The inputs of a model: the answer of the page to "inputs"."""

    inputs: tuple[PageInput, ...]


def page_answers(what: str = "response") -> Answers:
    """Validates what a page returns."""
    return Answers(
        lambda reason: DeviceError(f"the page returned an invalid {what}: {reason}. Reload the page."),
        slack=_SLACK, in_browser=True,
    )  # fmt: skip
