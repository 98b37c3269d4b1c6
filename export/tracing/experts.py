"""Switches mixture-of-experts models of the transformers package to a form that ONNX supports."""

import contextlib
from collections.abc import Iterator
from unittest import mock

from torch import nn

_FORM, _FIELD = "batched_mm", "_experts_implementation_internal"


@contextlib.contextmanager
def gathered_experts(model: nn.Module) -> Iterator[list[str]]:
    """Makes experts multiply by the gathered weights of each token's experts within the block.

    The default, a grouped product, has no ONNX form, and the loop over experts depends on the data.
    Yields a note for the user if the model has such experts.
    """
    gated = [module for module in model.modules() if hasattr(module, "_apply_gate")]
    configs = {id(config): config for module in gated if hasattr(config := getattr(module, "config", None), _FIELD)}
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
