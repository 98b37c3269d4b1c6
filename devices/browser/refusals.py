"""Convert error texts of onnxruntime-web to messages with a fix."""

import re
from collections.abc import Callable

from edgefc.devices.browser.onnxruntime_web import VERSION
from edgefc.errors import DeviceError, shortened

_LONGEST = 200  # characters of an unknown text
_HERE = f"onnxruntime-web {VERSION}"
_SMALLER = "Give a smaller batch or a smaller model"

_KNOWN: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (
        r"Could not find an implementation for (?P<op>[\w.:]+)\((?P<version>\d+)\)",
        lambda m: (
            f"{_HERE} has no kernel for its operator {m['op']} of opset {m['version']} with these types. "
            f"Export without it, or run it on a device with another onnxruntime"
        ),
    ),
    (
        r"(?P<op>[\w.]+:\w+)\(-?\d+\) is not a registered function/op|No Op registered for (?P<plain>\S+) with",
        lambda m: f"{_HERE} has no operator {m['op'] or m['plain']}. Export without it",
    ),
    (
        r"Unsupported model IR version: (?P<ir>\d+), max supported IR version: (?P<max>\d+)",
        lambda m: f"its IR version is {m['ir']} and {_HERE} reads up to {m['max']}. Export it with a lower one",
    ),
    (
        r"(?i)out of memory|bad_?alloc|OOM|allocat\w+ failed|failed to allocate|memory access out of bounds"
        r"|invalid array length|Integer overflow",  # sizes have 32 bits in wasm
        lambda _: f"the browser is out of memory; its wasm heap is limited to 4 GiB. {_SMALLER}",
    ),
    (
        r"(?i)external data|Module\.MountedFiles|not found in preloaded files",
        lambda _: "its weights file does not exist. Copy it to the model's folder",
    ),
    (
        r"(?i)protobuf parsing failed|ModelProto does not have a graph|No graph was found",
        lambda _: "it is not an ONNX file, or it is truncated. Export it or copy it again",
    ),
    (
        r"^\d+$",
        lambda m: f"{_HERE} threw C++ exception {m[0]} without a reason. {_SMALLER}",
    ),
)
_FAILURES = {"start": "cannot start onnxruntime-web for {}", "load": "cannot load {} in the browser"}


def refusal(about: str, stage: str, text: str) -> DeviceError:
    """An error for a text of onnxruntime-web. `stage` is the stage that failed: start, load or run."""
    failure = _FAILURES.get(stage, "cannot run {} in the browser").format(about)
    return DeviceError(f"{failure}: {_sentence(text)}.")


def _sentence(text: str) -> str:
    flat = " ".join(text.split())
    for pattern, sentence in _KNOWN:
        if match := re.search(pattern, flat):
            return sentence(match)
    flat = re.sub(r"^.*ERROR_MESSAGE: ", "", flat)
    flat = re.sub(r"\S+\.(cc|h|cpp):\d+ .*?\)(?: const)? ", "", flat).strip().rstrip(".")
    return shortened(flat, _LONGEST) or "onnxruntime-web gave no reason"
