"""A session as a probe is asked for it."""

from __future__ import annotations

from edgefc.runtime.probes.contracts import ModelFile
from edgefc.runtime.session import Session


def opened(model: ModelFile) -> Session:
    return Session(model.path, **vars(model.options))
