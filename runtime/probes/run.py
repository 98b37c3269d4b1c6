"""Child: run models once and return their outputs, so that the outputs of devices can be compared."""

from __future__ import annotations

import base64

from edgefc.errors import ModelError, UsageError
from edgefc.runtime.inputs import feeds_for, run_error
from edgefc.runtime.probes.contracts import ModelOutputs, Output, RunAnswer, RunQuestion
from edgefc.runtime.probes.opening import opened
from edgefc.runtime.signature import NUMBERS, Array

LARGEST_BYTES = 16 << 20


def run(asked: RunQuestion) -> RunAnswer:
    left, ran = LARGEST_BYTES, []
    for model in asked.models:
        session = opened(model)
        feeds = feeds_for(session.inputs, asked.wanted)[0]
        try:
            outputs = session.run(feeds)
        except ModelError as error:
            raise run_error(error, asked.wanted) from None
        left -= sum(value.nbytes for value in outputs.values())
        if left < 0:
            raise UsageError(
                f"the outputs have more than {LARGEST_BYTES} bytes, the limit for sending. Give a smaller batch."
            )
        ran.append(ModelOutputs(tuple(_output(name, value) for name, value in outputs.items()), session.native_variant))
    return RunAnswer(tuple(ran))


def _output(name: str, value: Array) -> Output:
    if value.dtype.name not in NUMBERS:
        raise UsageError(
            f"output {name!r} has dtype {value.dtype.name}, but only numbers can be sent. Run the model here."
        )
    return Output(name, value.dtype.name, value.shape, base64.b64encode(value.tobytes()).decode())


question, answer = RunQuestion, run
