"""Puts a model into eval mode while it is examined, and restores it exactly afterwards."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from edgefc import temporary
from edgefc.errors import ExportError, UsageError, describe_error
from edgefc.export.model.isolation import exit_raises, unchanged_folder
from edgefc.export.model.snapshot import Snapshot
from edgefc.export.tracing.autocast import without_autocast
from edgefc.export.tracing.examples import tensors


class Given:
    """A model in eval mode. All code that runs it must use run(), so that every run starts from the same state."""

    def __init__(self, before: Snapshot) -> None:
        self._before, self._ready = before, Snapshot(before.model)

    @contextlib.contextmanager
    def run(self) -> Iterator[Snapshot]:
        """Lets the block run the model, and then restores the state after eval(). Yields a snapshot of that state."""
        try:
            with unchanged_folder(), self._before.watch(self._ready):
                yield self._ready
        finally:
            self._ready.adopt_meta()
            self._ready.restore()

    def will_stay(self, tensor: Tensor) -> bool:
        """Whether a tensor of the model keeps its values when the model is restored."""
        return self._before.will_stay(tensor)


@contextlib.contextmanager
def as_given(model: nn.Module) -> Iterator[Given]:
    """Puts the model into eval mode within the block, without gradients and autocast, and restores it afterwards.

    The modes are set by eval() and train(), which models override to merge weights or to drop caches. Then everything
    that Snapshot records is restored: modes, attributes, parameters and buffers are the same objects with the same
    bits. torch's random generators, the grad mode, autocast and the current folder are restored as well, even if the
    block raises. Blocks can be nested.

    Memory: a copy of the tensors that eval(), train() or a run within Given.run() write to.

    Raises:
        UsageError: the model has uninitialised lazy parameters, or there is no folder for temporary files, which torch
            needs for tracing.
        ExportError: eval() or train() of the model raises.
    """
    _check_initialised(model)
    temporary.system_place()
    before = Snapshot(model)
    modes = [(module, bool(module.training)) for module in model.modules() if hasattr(module, "training")]
    with (
        unchanged_folder(), exit_raises(), torch.random.fork_rng(devices=_cuda_devices(model)), torch.no_grad(),
        without_autocast(model),
    ):  # fmt: skip
        try:
            with before.watch():
                _set_mode(model, False)
            yield Given(before)
            with before.watch():
                _restore_modes(modes)
        except BaseException:
            with before.watch(), contextlib.suppress(Exception):
                _restore_modes(modes)
            raise
        finally:
            before.restore()
            before.restore_generators()


def note_on_state(before: Snapshot, run: Callable[[], Any]) -> str | None:
    """Runs the model, and runs it again if it changed. Returns a note about state that the file does not keep.

    The note names parameters and buffers that the first run changes. It names other attributes only if the second run
    gives different outputs.
    """
    with torch.random.fork_rng(devices=_cuda_devices(before.model)):
        first = [tensor.clone() for tensor in tensors(run())]
    if not before.is_changed():
        return None
    names, all_names = before.changed_tensors(), before.changed_attributes()
    second = tensors(run())
    if len(first) != len(second) or not all(map(_close, first, second)):
        names = all_names or ["objects in its attributes"]
    if not names:
        return None
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return (
        f"forward of {type(before.model).__name__} changes {', '.join(names[:4])}{more}: the file keeps no state "
        "between runs, and each run starts from the values that the model had at export."
    )


def _close(first: Tensor, second: Tensor) -> bool:
    """Whether two runs are equal except for rounding, which caches may change."""
    if first.shape != second.shape or not (first.is_floating_point() or first.is_complex()):
        return torch.equal(first, second)
    if not first.numel():
        return True
    largest = float(first.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return torch.allclose(first, second, rtol=1e-5, atol=1e-6 * largest, equal_nan=True)


def check_has_values(model: nn.Module) -> None:
    """Checks that no parameter of the model is on the meta device.

    Raises:
        UsageError: a parameter is on the meta device. The message names the first.
    """
    for name, tensor in model.named_parameters():
        if tensor.is_meta:
            raise UsageError(
                f"{name} of {type(model).__name__} is on the meta device and has no values. Load them first: "
                "model.load_state_dict(state, assign=True), or model.to_empty(device='cpu') and then load_state_dict."
            )


def _check_initialised(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise UsageError(
                f"{name} of {type(model).__name__} is a lazy parameter without a shape. Run the model once, and train "
                "it or load its weights."
            )


def _set_mode(module: nn.Module, training: bool) -> None:
    try:
        module.train(training) if training else module.eval()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        call = "train()" if training else "eval()"
        raise ExportError(
            f"{type(module).__name__}.{call} raised {describe_error(error)}. Export a model whose mode can be changed."
        ) from error


def _restore_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    """Calls train() and eval() from the root down. as_given() restores everything else that they change."""
    for index, (module, training) in enumerate(modes):
        if index == 0 or module.training != training:
            _set_mode(module, training)


def _cuda_devices(model: nn.Module) -> list[int]:
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    return sorted({device.index or 0 for device in devices if device.type == "cuda"})
