"""Child: load each model once and run it once at each batch size, so that what cannot work is told before measuring.

Question: models (path and own settings of each), inputs (.npz path or null), shapes, ranges, batches (sizes, or null
for the model's own), preset, native.
Answer: for each batch, for each model, the batch size of its feeds, and their names, dtypes and shapes.
"""

from __future__ import annotations

from typing import Any

from edgefc.errors import ModelError, UsageError
from edgefc.runtime.inputs import Wanted, check_named, drawn_error, fed, feeds_for
from edgefc.runtime.session import Session, open_session


def check(question: dict[str, Any]) -> list[list[dict[str, Any]]]:
    sessions = [open_session(model, question) for model in question["models"]]
    check_named(Wanted.of(question), [port for session in sessions for port in session.inputs])
    return [[_tried(session, Wanted.of(question, batch)) for session in sessions] for batch in question["batches"]]


def _tried(session: Session, wanted: Wanted) -> dict[str, Any]:
    try:
        feeds, batch = feeds_for(session.inputs, wanted)
    except UsageError as error:
        raise UsageError(f"{session.path}: {error}") from None
    try:
        session.run(feeds)
    except ModelError as error:
        raise error if wanted.path is not None else ModelError(drawn_error(str(error))) from None
    return {"batch": batch, "inputs": fed(feeds)}


answer = check
