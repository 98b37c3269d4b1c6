"""Probes in this process, for tests of what they answer: a child takes a quarter of a second of the processor to start.

That an answer and an error come back from a child is tested in tests/runtime/probes/test_child.py.
"""

import json
from importlib import import_module
from typing import Any

import pytest


def _ask(probe: str, question: dict[str, Any], **_options: Any) -> Any:
    answer = import_module(f"edgefc.runtime.probes.{probe}").answer(json.loads(json.dumps(question)))
    return json.loads(json.dumps(answer))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As child.ask and Children.ask."""
    monkeypatch.setattr("edgefc.runtime.probes.child.ask", _ask)
    monkeypatch.setattr(
        "edgefc.runtime.probes.child.Children.ask", lambda _self, *given, **options: _ask(*given, **options)
    )
