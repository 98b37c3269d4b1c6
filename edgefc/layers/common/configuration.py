"""Encodes the configuration of a layer as a tensor, and compares it with the configuration in a checkpoint.

The tensor is uint8 and contains JSON in UTF-8, padded with spaces to a multiple of 128 bytes, such as
{"format": 1, "layer": "PRPLinear", "distribution": "gaussian", ...}.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgefc.errors import UsageError

Configuration = Mapping[str, int | str | bool | list[int]]

FORMAT = 1
"""Reading a higher format raises an error."""

# Nearly all configurations get the same shape. Loaders that compare shapes first then still report the difference.
_WIDTH = 128


def encoded(configuration: Configuration, device: torch.device) -> Tensor:
    """Returns the configuration as a uint8 tensor (128 k,)."""
    text = json.dumps({"format": FORMAT, **configuration}, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // _WIDTH) * _WIDTH)
    with torch.inference_mode(False):
        return torch.tensor(list(text), dtype=torch.uint8, device=device)


def check(where: str, own: Configuration, stored: Any) -> None:
    """Checks that the configuration `stored` in a checkpoint equals `own`. `where` names the layer in the model.

    Raises:
        UsageError: values differ, or this version cannot read the tensor.
    """
    if isinstance(stored, Tensor) and stored.is_meta:  # has no values
        return
    loaded = _decoded(where, stored)
    newest = loaded.pop("format")
    if newest > FORMAT:
        raise UsageError(
            f"the configuration of {where} in the checkpoint has format {newest}, but this version of edgefc reads "
            f"formats up to {FORMAT}. Update edgefc."
        )
    names = [name for name in dict.fromkeys([*own, *loaded]) if own.get(name) != loaded.get(name)]
    if not names:
        return
    if "layer" in names:
        names = ["layer"]
    differences = [
        f"{name} is {_value_text(own, name)} in the layer and {_value_text(loaded, name)} in the checkpoint"
        for name in names
    ]
    settings = ", ".join(f"{name}={loaded[name]!r}" for name in names if name in loaded)
    raise UsageError(
        f"the checkpoint does not match {where}: {'; '.join(differences)}. "
        f"Build the layer with {settings or 'the settings of the checkpoint'}, or load another checkpoint."
    )


def _decoded(where: str, stored: Any) -> dict[str, Any]:
    try:
        loaded = json.loads(bytes(stored.tolist()))
    except Exception:  # the file is untrusted and may contain any tensor here
        loaded = None
    if isinstance(loaded, dict) and isinstance(loaded.get("format"), int):
        return loaded
    raise UsageError(
        f"cannot read the configuration of {where} in the checkpoint. Save the state dict of the layer again, without "
        "changing its tensors."
    )


def _value_text(configuration: Mapping[str, Any], name: str) -> str:
    return repr(configuration[name]) if name in configuration else "not set"
