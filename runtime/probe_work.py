"""Child: run one model once, by its bodies, and tell every node that onnxruntime's own profiler saw, in order.

Question: model (path), inputs (.npz path or null), shapes, ranges, batch.
Answer: batch, and nodes: of each its name, operator, bytes of constant inputs, and the types and shapes of its inputs
and outputs as onnxruntime writes them: [{"float": [16, 256]}, ...].
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime as ort

from edgefc.errors import ModelError
from edgefc.runtime import failures
from edgefc.runtime.child import answer
from edgefc.runtime.inputs import Wanted, check_named, drawn_error, feeds_for
from edgefc.runtime.presets import session_options, settings
from edgefc.runtime.signature import port_of

_SUFFIX = "_kernel_time"


def work(question: dict[str, Any]) -> dict[str, Any]:
    file = Path(question["model"]["path"])
    failures.check_file(file)
    with TemporaryDirectory() as folder:
        options = session_options(settings("latency", 1))
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "run")
        try:
            session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise failures.load_error(file, error) from None
        inputs, wanted = [port_of(each) for each in session.get_inputs()], Wanted.of(question)
        check_named(wanted, inputs)
        feeds, batch = feeds_for(inputs, wanted)
        try:
            session.run(None, feeds)
        except Exception as error:
            failed = failures.run_error(file, error)
            raise failed if wanted.path is not None else ModelError(drawn_error(str(failed))) from None
        return {"batch": batch, "nodes": _nodes(Path(session.end_profiling()), file)}


def _nodes(profile: Path, file: Path) -> list[list[Any]]:
    try:
        events = json.loads(profile.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file} cannot be counted: onnxruntime's profile of it is unreadable ({type(error).__name__}). "
            "Use names of plain letters in it."
        ) from None
    seen = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)]
    return [_node(event["name"][: -len(_SUFFIX)], event["args"]) for event in seen]


def _node(name: str, args: dict[str, Any]) -> list[Any]:
    shapes = [args.get(side) or [] for side in ("input_type_shape", "output_type_shape")]
    return [name, args.get("op_name", ""), int(args.get("parameter_size") or 0), *shapes]


if __name__ == "__main__":
    answer(work)
