"""Convert the facts of a browser to the fields of a record. Values that a browser does not report are None, with the
reason."""

from datetime import datetime, timezone

import edgefc
from edgefc.devices.browser.answers import Facts
from edgefc.devices.browser.onnxruntime_web import VERSION
from edgefc.runtime.profiling.parts import Device, Environment

SAMPLE_STEPS = 200  # as in page/steady.js
_UNKNOWN = "a browser does not report it"
_NO_PYTHON = "a browser has no Python"
_BRAND_FILLER = ("Not", "not")  # Chromium adds an invented brand, such as "Not A;Brand"


def environment(facts: Facts) -> Environment:
    unknown = (
        "board", "virtual", "emulated", "cpu", "features", "usable_cores", "governor", "frequency_hz",
        "max_frequency_hz", "memory_bytes", "load_1min",
    )  # fmt: skip
    missing = {**dict.fromkeys(unknown, _UNKNOWN), "python": _NO_PYTHON, "numpy": _NO_PYTHON}
    if facts.model:
        del missing["board"]
    if facts.cores is None:
        missing["cores"] = f"{_UNKNOWN}, so one is assumed"
    known = {
        "board": facts.model or None, "machine": _machine(facts), "cores": facts.cores or 1,
        "os": " ".join(filter(None, (facts.platform, facts.platform_version))) or "unknown",
        "implementation": _browser(facts), "onnxruntime": f"web {VERSION}", "edgefc": edgefc.__version__,
        "date": datetime.now(timezone.utc).replace(microsecond=0), "missing": missing,
    }  # fmt: skip
    return Environment.of({**dict.fromkeys(missing), **known})


def device(name: str, facts: Facts, download_bytes: int) -> Device:
    notes = [
        f"a sample is the mean of consecutive runs that take {SAMPLE_STEPS} steps of the browser's clock, "
        f"of {facts.timer_step_ns / 1000:g} us each; spread and percentiles are those of these means",
        "a browser does not report temperature, clock frequency, CPU time or peak memory",
    ]
    if not facts.isolated:
        notes.append(
            "the page was not in a secure context: it had one thread, and reported only the wasm heap as memory"
        )
    return Device(
        name=name, transport="browser", emulated=False, profile=None, before=None, after=None, waited_s=0.0,
        download_bytes=download_bytes, notes=tuple(notes),
    )  # fmt: skip


def _machine(facts: Facts) -> str:
    bits = f" {facts.bitness} bit" if facts.bitness else ""
    return f"{facts.architecture}{bits}" if facts.architecture else "unknown"


def _browser(facts: Facts) -> str:
    brands = [brand for brand in facts.brands if not brand.startswith(_BRAND_FILLER)]
    return ", ".join(brands) or facts.user_agent
