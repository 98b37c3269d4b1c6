"""A model whose Loop never ends, and what is left of processes that were started for it."""

import time
from pathlib import Path

from onnx import TensorProto, helper, save


def model(path: Path) -> Path:
    """float32 (batch, 8) to the same: the condition of its Loop stays true for 2**62 rounds."""
    rows = helper.make_tensor_value_info("v", TensorProto.FLOAT, [None, 8])
    flag, count = (
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("c", TensorProto.BOOL), ("i", TensorProto.INT64))
    )
    nodes = [helper.make_node("Identity", ["c"], ["still"]), helper.make_node("Sin", ["v"], ["next"])]
    outputs = [
        helper.make_tensor_value_info("still", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", TensorProto.FLOAT, [None, 8]),
    ]
    body = helper.make_graph(nodes, "body", [count, flag, rows], outputs)
    graph = helper.make_graph(
        [helper.make_node("Loop", ["most", "true", "input"], ["output"], body=body)],
        "endless",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 8])],
        [
            helper.make_tensor("most", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
        ],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def left(mark: str, within_s: float = 10.0) -> list[str]:
    """The command lines of processes with `mark` in their environment that are still there after within_s."""
    until = time.monotonic() + within_s
    while (found := marked(mark)) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def marked(mark: str) -> list[str]:
    """The command lines of processes that are alive with `mark` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found
