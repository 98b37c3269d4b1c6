"""Child: run one model once by its bodies, and list every node that onnxruntime executed, in order.

The nodes are those of the optimised graph: functions are inlined, constants folded and nodes fused (executed.py).
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
from edgefc.releases import check_release
from edgefc.runtime import failures, graph
from edgefc.runtime.inputs import check_named, feeds_for, run_error
from edgefc.runtime.presets import CPU_ONLY, session_options, settings
from edgefc.runtime.probes.contracts import WorkAnswer, WorkQuestion
from edgefc.runtime.probes.executed import executed
from edgefc.runtime.session import check_nodes
from edgefc.runtime.signature import tensor_info_of

_SUFFIX = "_kernel_time"
_OPTIMISED, _WEIGHTS = "optimised.onnx", "weights"
_SPACE = 1 << 16  # bytes, more than a stream buffers


def work(asked: WorkQuestion) -> WorkAnswer:
    file, folder = Path(asked.path), Path(asked.folder)
    check_release(ort.__version__)
    admit(file)
    try:
        return _work(asked, file, folder)
    except EdgefcError:  # onnxruntime does not report that it could not write its profile
        temporary.check_room(folder, _SPACE + max((each.stat().st_size for each in folder.glob("*.*")), default=0))
        raise


def _work(asked: WorkQuestion, file: Path, folder: Path) -> WorkAnswer:
    check_nodes(file)
    try:
        session = ort.InferenceSession(str(file), _options(folder), **CPU_ONLY)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise failures.load_error(file, error) from None
    inputs = [tensor_info_of(each) for each in session.get_inputs()]
    check_named(asked.wanted, inputs)
    feeds, batch = feeds_for(inputs, asked.wanted)
    try:
        session.run(None, feeds)
    except Exception as error:
        raise run_error(failures.run_error(file, error), asked.wanted) from None
    try:
        optimised = graph.read(folder / _OPTIMISED).graph
        nodes = executed(optimised, _events(Path(session.end_profiling())))
    except (OSError, ValueError) as error:
        why = f"onnxruntime's profile of it is unreadable ({describe_error(error)})"
        raise ModelError(
            f"cannot count the operations of {file}: {why}. Give its nodes names of ASCII letters."
        ) from None
    return WorkAnswer(batch, tuple(nodes))


def _options(folder: Path) -> Any:
    """Options that enable the profiler and write the optimised graph, without its weights, into the folder."""
    options = session_options(settings("latency", 1))
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "run")
    options.optimized_model_filepath = str(folder / _OPTIMISED)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "64")
    with suppress(OSError, NotImplementedError):  # without links, the weights are written and deleted later
        (folder / _WEIGHTS).symlink_to(os.devnull)
    return options


def _events(profile: Path) -> list[dict[str, Any]]:
    events = json.loads(profile.read_text(encoding="utf-8", errors="replace"))  # decoded as in graph.py
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)]
    return [
        {
            "name": event["name"][: -len(_SUFFIX)], "op": event["args"].get("op_name", ""), "start": event["ts"],
            "inputs": event["args"].get("input_type_shape") or [],
            "outputs": event["args"].get("output_type_shape") or [],
        }
        for event in nodes
    ]  # fmt: skip


question, answer = WorkQuestion, work
