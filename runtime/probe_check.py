"""Child: load each model once and make its feeds, so that what cannot work is told before anything is measured.

Question: models (path and own settings of each), inputs (.npz path or null), batches (sizes, or null for the model's
own), preset, native.
Answer: for each batch, for each model, the batch size of its feeds.
"""

from __future__ import annotations

from typing import Any

from edgefc.runtime.child import answer
from edgefc.runtime.inputs import feeds_for
from edgefc.runtime.session import open_session


def check(question: dict[str, Any]) -> list[list[int]]:
    from edgefc.errors import UsageError

    found: list[list[int]] = []
    for model in question["models"]:
        session = open_session(model, question)
        try:
            found.append([feeds_for(session.inputs, b, question["inputs"])[1] for b in question["batches"]])
        except UsageError as error:
            raise UsageError(f"{model['path']}: {error}") from None
    return [list(row) for row in zip(*found)]


if __name__ == "__main__":
    answer(check)
