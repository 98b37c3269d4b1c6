"""Child: facts about the machine."""

from __future__ import annotations

from edgefc.runtime.probes.contracts import FactsAnswer, FactsQuestion
from edgefc.runtime.probes.machine import environment


def facts(asked: FactsQuestion) -> FactsAnswer:
    return FactsAnswer(**{name: value for name, value in environment().items() if name != "date"})


question, answer = FactsQuestion, facts
