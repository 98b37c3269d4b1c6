"""Convert the settings of a preset to session options of onnxruntime-web."""

from typing import Any

from edgefc.errors import UsageError
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.presets import settings

_NAMES = {"enable_cpu_mem_arena": "enableCpuMemArena"}  # onnxruntime's name -> onnxruntime-web's name
_FATAL = 4


def session_options(asked: SessionOptions) -> dict[str, Any]:
    """The options of InferenceSession.create. The thread count is not one of them: it is set for onnxruntime-web."""
    options: dict[str, Any] = {"executionProviders": ["wasm"], "logSeverityLevel": _FATAL}
    for name, value in settings(asked.preset, asked.threads).items():
        if "." in name:
            _nest(options.setdefault("extra", {}), name.split("."), str(value))
        elif name in _NAMES:
            options[_NAMES[name]] = value
        elif name != "intra_op_num_threads":
            raise UsageError(
                f"preset {asked.preset!r} sets {name}, which onnxruntime-web does not have. Choose another preset."
            )
    return options


def check_native(asked: SessionOptions, about: str) -> None:
    """Raise UsageError if native is "on" or activations are int8: a browser cannot load the native kernels."""
    if asked.rounds_activations:
        raise UsageError(
            f"{about}: int8 activations need the native kernels, which a browser cannot load. Use float32 activations."
        )
    if asked.native == "on":
        raise UsageError(f"{about}: a browser cannot load native kernels. Set native to auto or off.")


def _nest(tree: dict[str, Any], path: list[str], value: str) -> None:
    """Store session.intra_op.allow_spinning as {"session": {"intra_op": {"allow_spinning": value}}}."""
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value
