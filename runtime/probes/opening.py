"""A session as a probe is asked for it."""

from __future__ import annotations

from edgefc.runtime.probes.contracts import ModelToRun
from edgefc.runtime.session import Session


def opened(model: ModelToRun) -> Session:
    return Session(model.path, **vars(model.options))
