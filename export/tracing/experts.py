"""Mixtures of experts of the transformers package, in the form that ONNX has operators for."""

import contextlib
from collections.abc import Iterator
from unittest import mock

from torch import nn

_FORM, _FIELD = "batched_mm", "_experts_implementation_internal"


@contextlib.contextmanager
def gathered_experts(model: nn.Module) -> Iterator[list[str]]:
    """Within the block experts multiply by the gathered weights of each token's experts.

    The grouped product, which is the default, has no ONNX form, and the loop over experts depends on data.
    Yields a sentence for the user where the model has such experts.
    """
    found = [module for module in model.modules() if hasattr(module, "_apply_gate")]
    configs = {id(config): config for module in found if hasattr(config := getattr(module, "config", None), _FIELD)}
    with contextlib.ExitStack() as restore:
        for config in configs.values():
            restore.enter_context(mock.patch.object(config, _FIELD, _FORM))
        yield (
            [
                f"the experts of {type(model).__name__} gather the weights of each token's experts: "
                "the memory of a run grows with the number of tokens"
            ]
            if configs
            else []
        )
