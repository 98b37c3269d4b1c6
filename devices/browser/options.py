"""Convert the settings of a preset to session options of onnxruntime-web."""

from typing import Any

from edgefc.errors import UsageError
from edgefc.runtime.presets import settings

_NAMES = {"enable_cpu_mem_arena": "enableCpuMemArena"}  # onnxruntime's name -> onnxruntime-web's name
_FATAL = 4


def session_options(preset: str, threads: int) -> dict[str, Any]:
    """The options of InferenceSession.create. The number of threads is a global setting of onnxruntime-web instead.

    Raises:
        UsageError: the preset has a setting that onnxruntime-web does not have.
    """
    options: dict[str, Any] = {"executionProviders": ["wasm"], "logSeverityLevel": _FATAL}
    for name, value in settings(preset, threads).items():
        if "." in name:
            _nest(options.setdefault("extra", {}), name.split("."), str(value))
        elif name in _NAMES:
            options[_NAMES[name]] = value
        elif name != "intra_op_num_threads":
            raise UsageError(f"preset {preset!r} sets {name}, which onnxruntime-web does not have. Choose another one.")
    return options


def check_native(native: str, activation_dtype: str, about: str) -> None:
    """Reject native="on" and int8 activations: they need native kernels, which a browser cannot load.

    Raises:
        UsageError: one of them is requested.
    """
    if activation_dtype != "float32":
        raise UsageError(
            f"{about}: activations in {activation_dtype} need the native kernels, which a browser cannot load. "
            f"Leave activation_dtype at float32."
        )
    if native == "on":
        raise UsageError(f"{about}: a browser cannot load native kernels. Leave native at auto, or set it to off.")


def _nest(tree: dict[str, Any], path: list[str], value: str) -> None:
    """Store session.intra_op.allow_spinning as {"session": {"intra_op": {"allow_spinning": value}}}."""
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value
