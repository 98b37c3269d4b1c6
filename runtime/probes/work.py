"""Child: run one model once, by its bodies, and tell every node that onnxruntime executed, in order.

Question: model (path), inputs (.npz path or null), shapes, ranges, batch, folder (empty, for onnxruntime's files).
Answer: batch, and nodes as executed.py tells them: after functions were written out, constants folded, nodes fused.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnxruntime as ort

from edgefc import temporary
from edgefc.errors import EdgefcError, ModelError, describe_error
from edgefc.modelfile.admission import admit
from edgefc.runtime import failures, graph
from edgefc.runtime.inputs import Wanted, check_named, drawn_error, feeds_for
from edgefc.runtime.presets import CPU_ONLY, session_options, settings
from edgefc.runtime.probes.executed import executed
from edgefc.runtime.session import check_nodes
from edgefc.runtime.signature import tensor_info_of

_SUFFIX = "_kernel_time"
_OPTIMISED, _WEIGHTS = "optimised.onnx", "weights"
_ROOM = 1 << 16  # bytes, more than a stream holds back


def work(question: dict[str, Any]) -> dict[str, Any]:
    file, folder = Path(question["model"]["path"]), Path(question["folder"])
    admit(file)
    try:
        return _work(question, file, folder)
    except EdgefcError:  # onnxruntime does not say that it could not write its profile
        temporary.check_room(folder, _ROOM + max((each.stat().st_size for each in folder.glob("*.*")), default=0))
        raise


def _work(question: dict[str, Any], file: Path, folder: Path) -> dict[str, Any]:
    check_nodes(file)
    try:
        session = ort.InferenceSession(str(file), _options(folder), **CPU_ONLY)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise failures.load_error(file, error) from None
    inputs, wanted = [tensor_info_of(each) for each in session.get_inputs()], Wanted.of(question)
    check_named(wanted, inputs)
    feeds, batch = feeds_for(inputs, wanted)
    try:
        session.run(None, feeds)
    except Exception as error:
        failed = failures.run_error(file, error)
        raise failed if wanted.path is not None else ModelError(drawn_error(str(failed))) from None
    try:
        optimised = graph.read(folder / _OPTIMISED).graph
        nodes = executed(optimised, _events(Path(session.end_profiling())))
    except (OSError, ValueError) as error:
        why = f"onnxruntime's profile of it is unreadable ({describe_error(error)})"
        raise ModelError(f"{file} cannot be counted: {why}. Give its nodes names, of plain letters.") from None
    return {"batch": batch, "nodes": nodes}


def _options(folder: Path) -> Any:
    """With the profiler on, and the optimised graph written into the folder, its weights nowhere."""
    options = session_options(settings("latency", 1))
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "run")
    options.optimized_model_filepath = str(folder / _OPTIMISED)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "64")
    with suppress(OSError, NotImplementedError):  # where links are not allowed the weights are written, and deleted
        (folder / _WEIGHTS).symlink_to(os.devnull)
    return options


def _events(profile: Path) -> list[dict[str, Any]]:
    events = json.loads(profile.read_text(encoding="utf-8", errors="replace"))  # as graph.py reads names
    seen = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)]
    return [
        {
            "name": event["name"][: -len(_SUFFIX)], "op": event["args"].get("op_name", ""), "start": event["ts"],
            "inputs": event["args"].get("input_type_shape") or [],
            "outputs": event["args"].get("output_type_shape") or [],
        }
        for event in seen
    ]  # fmt: skip


answer = work
