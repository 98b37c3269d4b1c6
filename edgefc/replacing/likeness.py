"""What a new layer takes from the layer that it replaces: its sizes, its device and its dtype."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgefc.layers.common.effective import effective_tensors
from edgefc.layers.common.trained import trained_linear


def sizes_of(module: nn.Module) -> tuple[int, int, bool]:
    """Inputs, outputs, and whether a linear layer has a bias."""
    trained = trained_linear(nn.Linear, module)
    return trained.in_features, trained.out_features, trained.bias is not None


def where_of(module: nn.Module) -> dict[str, Any]:
    """The device and the dtype of a module, as keyword arguments."""
    tensor = next(iter(effective_tensors(module).values()), None)
    tensor = next(module.parameters()) if tensor is None else tensor
    return {"device": tensor.device, "dtype": tensor.dtype}


def tensor_like(array: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float64)).to(like.device, like.dtype)
