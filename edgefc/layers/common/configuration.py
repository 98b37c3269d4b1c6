"""A layer's configuration in a tensor, and the comparison with that of a checkpoint.

The tensor holds JSON in UTF-8, padded with spaces to a multiple of 128 bytes, as uint8. {"format": 1, "layer":
"PRPLinear", "distribution": "gaussian", ...}: a reader of a file needs no table to read it.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgefc.errors import UsageError

Configuration = Mapping[str, int | str | bool | list[int]]

FORMAT = 1
"""A reader refuses a higher one."""

_WIDTH = 128  # one shape for nearly all of them, so that loaders which compare shapes first do not hide the difference


def encoded(configuration: Configuration, device: torch.device) -> Tensor:
    """The configuration as uint8 (128 k,)."""
    text = json.dumps({"format": FORMAT, **configuration}, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // _WIDTH) * _WIDTH)
    with torch.inference_mode(False):
        return torch.tensor(list(text), dtype=torch.uint8, device=device)


def check(where: str, own: Configuration, stored: Any) -> None:
    """Refuse a checkpoint of another configuration than `own`. `where` names the layer in the model.

    Raises:
        UsageError: with the values that differ, or for a tensor that holds no configuration this version can read.
    """
    if isinstance(stored, Tensor) and stored.is_meta:  # has no values
        return
    found = _decoded(where, stored)
    newest = found.pop("format")
    if newest > FORMAT:
        raise UsageError(
            f"the configuration of {where} in the checkpoint has format {newest}, and this edgefc reads up to "
            f"{FORMAT}. Update edgefc."
        )
    names = [name for name in dict.fromkeys([*own, *found]) if own.get(name) != found.get(name)]
    if not names:
        return
    if "layer" in names:
        names = ["layer"]
    differences = [
        f"{name} is {_said(own, name)} in the layer and {_said(found, name)} in the checkpoint" for name in names
    ]
    settings = ", ".join(f"{name}={found[name]!r}" for name in names if name in found)
    raise UsageError(
        f"the checkpoint does not fit {where}: {'; '.join(differences)}. "
        f"Build the layer with {settings or 'the settings of the checkpoint'}, or load another checkpoint."
    )


def _decoded(where: str, stored: Any) -> dict[str, Any]:
    try:
        found = json.loads(bytes(stored.tolist()))
    except Exception:  # a file may hold any tensor here
        found = None
    if isinstance(found, dict) and isinstance(found.get("format"), int):
        return found
    raise UsageError(
        f"cannot read the configuration of {where} in the checkpoint. Save the layer's state dict again, without "
        "changing its tensors."
    )


def _said(configuration: Mapping[str, Any], name: str) -> str:
    return repr(configuration[name]) if name in configuration else "not set"
