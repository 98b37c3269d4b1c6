"""Child: the machine, in the fields of parts.Environment, the date as text. Question: nothing."""

from __future__ import annotations

from typing import Any


def facts(question: dict[str, Any]) -> dict[str, Any]:
    from edgefc.runtime.probes.machine import environment

    found = environment()
    return {**found, "date": found["date"].isoformat()}


answer = facts
