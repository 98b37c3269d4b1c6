"""Create the session for a ModelToRun."""

from __future__ import annotations

from edgefc.runtime.probes.contracts import ModelToRun
from edgefc.runtime.session import Session


def opened(model: ModelToRun) -> Session:
    return Session(model.path, **vars(model.options))
