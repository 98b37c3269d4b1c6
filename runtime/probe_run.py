"""Child: run a model once and answer its outputs, so that a device's can be held against another's.

Question: model, inputs (.npz path or null), batch, preset, native, threads. Answer: names, npz (base64, in
their order), used_native.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from edgefc.errors import UsageError
from edgefc.runtime.child import answer
from edgefc.runtime.inputs import feeds_for
from edgefc.runtime.session import open_session

LARGEST_BYTES = 16 << 20


def run(question: dict[str, Any]) -> dict[str, Any]:
    session = open_session(question["model"], question)
    outputs = session.run(feeds_for(session.inputs, question["batch"], question["inputs"])[0])
    size = sum(value.nbytes for value in outputs.values())
    if size > LARGEST_BYTES:
        raise UsageError(
            f"the outputs are {size} bytes, above the {LARGEST_BYTES} that are sent. Give a smaller batch."
        )
    packed = io.BytesIO()  # without names: they may be any text
    np.savez(packed, *outputs.values())
    return {"names": list(outputs), "npz": base64.b64encode(packed.getvalue()).decode(), "used_native": session.native}


if __name__ == "__main__":
    answer(run)
