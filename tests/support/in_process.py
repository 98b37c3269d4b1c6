"""Probes in this process, for tests of what they answer: a child takes a quarter of a second of the processor to start.

That an answer and an error come back from a child is tested in tests/runtime/probes/test_child.py.
"""

import json
from importlib import import_module
from typing import Any, TypeVar

import pytest

from edgefc.runtime.probes.contracts import Question
from edgefc.runtime.probes.plain import encode, read

A = TypeVar("A")


def _ask(question: Question[A], **_options: Any) -> A:
    probe = import_module(f"edgefc.runtime.probes.{question.probe}")
    answer = probe.answer(read(type(question), json.loads(encode(question))))
    found: A = read(question.answer, json.loads(encode(answer)))
    return found


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As child.ask and Children.ask."""
    monkeypatch.setattr("edgefc.runtime.probes.child.ask", _ask)
    monkeypatch.setattr(
        "edgefc.runtime.probes.child.Children.ask", lambda _self, *given, **options: _ask(*given, **options)
    )
