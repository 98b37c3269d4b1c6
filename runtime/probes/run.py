"""Child: run models once and answer their outputs, so that a device's can be held against another's.

Question: models, inputs (.npz path or null), shapes, ranges, batch, preset, native, threads.
Answer: for each model names, npz (base64, in their order), used_native.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from edgefc.errors import ModelError, UsageError
from edgefc.runtime.inputs import Wanted, drawn_error, feeds_for
from edgefc.runtime.session import open_session

LARGEST_BYTES = 16 << 20


def run(question: dict[str, Any]) -> list[dict[str, Any]]:
    left, found = LARGEST_BYTES, []
    for model in question["models"]:
        session = open_session(model, question)
        feeds = feeds_for(session.inputs, Wanted.of(question))[0]
        try:
            outputs = session.run(feeds)
        except ModelError as error:
            raise error if question["inputs"] is not None else ModelError(drawn_error(str(error))) from None
        left -= sum(value.nbytes for value in outputs.values())
        if left < 0:
            raise UsageError(f"the outputs are above the {LARGEST_BYTES} bytes that are sent. Give a smaller batch.")
        packed = io.BytesIO()  # without names: they may be any text
        np.savez(packed, *outputs.values())
        npz = base64.b64encode(packed.getvalue()).decode()
        found.append({"names": list(outputs), "npz": npz, "used_native": session.native_variant})
    return found


answer = run
