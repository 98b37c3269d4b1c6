"""Creates inputs of other sizes, to compare a file with its model along dynamic axes."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from edgefc.errors import UsageError, describe_error
from edgefc.export.model.state import Given
from edgefc.export.tracing import axes
from edgefc.export.tracing.adapter import Adapter, Inputs
from edgefc.export.tracing.axes import Axis, Plan
from edgefc.export.tracing.caches import PAST
from edgefc.export.verifying.running import file_order


def variants(given: Given, adapter: Adapter, plan: Plan) -> list[tuple[Tensor, ...]]:
    """Returns the examples of `adapter` resized to the smallest sizes and to larger ones.

    If the model does not run on a set of sizes, only its batch size is changed.
    """
    tensors = adapter.inputs.tensors
    sizes = axes.sizes_of(plan, adapter.inputs.names, tensors)
    result = []
    for other in axes.other_sizes(plan, sizes):
        first = {open_axes[0].name for open_axes in plan if 0 in open_axes}
        batch_only = {name: other[name] if name in first else size for name, size in sizes.items()}
        for choice in (other, batch_only):
            candidate = axes.resized(plan, tensors, choice)
            if choice != sizes and _runs(given, adapter, candidate):
                result.append(candidate)
                break
    return result


def plan_of_file(session: Any, inputs: Inputs) -> Plan:
    """Returns the dynamic axes in the input shapes of a file, in the order of the model's inputs."""
    shapes = {entry.name: entry.shape for entry in session.get_inputs()}
    by_place = {index: shapes[name] for name, index in file_order(session, inputs.names).items()}
    return tuple(
        {
            axis: Axis(size, low=0 if size == PAST else None)
            for axis, size in enumerate(by_place[index])
            if isinstance(size, str)
        }
        for index in range(len(inputs.names))
    )


def _runs(given: Given, adapter: Adapter, tensors: Sequence[Tensor]) -> bool:
    try:
        with given.run():
            adapter.call(*tensors)
    except SystemExit as error:
        raise UsageError(
            f"{type(adapter.model).__name__} ends the process on inputs of shapes "
            f"{', '.join(str(tuple(tensor.shape)) for tensor in tensors)}: {describe_error(error)}. "
            "Use a model that returns."
        ) from error
    except Exception:
        return False
    return True
