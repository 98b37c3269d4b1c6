"""Child: load each model once and run it once at each batch size, to find errors before measuring."""

from __future__ import annotations

from dataclasses import replace

from edgefc.errors import ModelError, UsageError
from edgefc.runtime.inputs import Wanted, check_named, dtype_name, feeds_for, run_error
from edgefc.runtime.probes.contracts import ArrayInfo, Trial, TrialAnswer, TrialQuestion
from edgefc.runtime.probes.opening import opened
from edgefc.runtime.session import Session
from edgefc.runtime.signature import Array


def check(asked: TrialQuestion) -> TrialAnswer:
    sessions = [opened(model) for model in asked.models]
    check_named(asked.wanted, [info for session in sessions for info in session.inputs])
    wanted = [replace(asked.wanted, batch=batch) for batch in asked.batches]
    return TrialAnswer(tuple(tuple(_trial(session, each) for session in sessions) for each in wanted))


def _trial(session: Session, wanted: Wanted) -> Trial:
    try:
        feeds, batch = feeds_for(session.inputs, wanted)
    except UsageError as error:
        raise error.reworded(f"{session.path}: {error}") from None
    try:
        session.run(feeds)
    except ModelError as error:
        raise run_error(error, wanted) from None
    return Trial(batch, array_infos(feeds))


def array_infos(feeds: dict[str, Array]) -> tuple[ArrayInfo, ...]:
    return tuple(ArrayInfo(name, dtype_name(value), value.shape) for name, value in feeds.items())


question, answer = TrialQuestion, check
