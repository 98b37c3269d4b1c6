"""The seed and the configuration of a layer in its state dict.

    stored_seed     () int64        the 64-bit seed, in two's complement; the only source of the layer's seed
    layer_config    (128 k,) uint8  all other settings that determine the meaning of the weights, see configuration.py

load_state_dict() restores the seed and compares the configuration. Both are buffers, because all tools that handle
state dicts support buffers: safetensors stores only tensors, FSDP and torch.distributed.checkpoint iterate over
buffers, and accelerate assigns them by name. Some of these tools do not support get_extra_state(). An .onnx file
contains neither buffer: it stores the seed and the configuration as attributes of the node.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from edgefc.errors import UsageError
from edgefc.generator import check_seed
from edgefc.layers.common import configuration, ranks
from edgefc.layers.common.seed_reading import Reading, draw_seed, is_fake, seed_tensor

SEED, CONFIGURATION = BUFFERS = "stored_seed", "layer_config"
"""The names of both buffers. holds_weights() excludes them."""


class Seeded(nn.Module):
    """Base class of layers that compute with a seed. A layer calls _store_seed() once its configuration() is complete.

    If the seed is None, it is drawn from torch's CPU generator, also under a meta device. Both buffers keep their
    values and dtypes in half(), to() and similar calls. to_empty() restores the seed of the constructor. Under
    DistributedDataParallel and FSDP2 all ranks use the seed of the first rank. Under FSDP1 different seeds raise an
    error unless sync_module_states=True has made them equal.
    """

    stored_seed: Tensor
    layer_config: Tensor
    seed_is_drawn: bool
    """Whether the seed was drawn, because none was given. Then loading a checkpoint without a seed raises an error."""
    _known_seed: int | None = None

    def configuration(self) -> configuration.Configuration:
        """Returns the other settings that determine the meaning of the weights. "layer" is the name of the class."""
        raise NotImplementedError  # nn.Module does not support abstract methods

    @property
    def seed(self) -> int:
        """The seed in `stored_seed`, from 0 to 2**64 - 1.

        While the buffer is a meta tensor, this is the seed of the constructor. While a tracer replaces the buffer by a
        fake tensor, this is the seed in the original buffer.

        Raises:
            UsageError: the buffers were averaged, as by a moving average over a whole state dict.
        """
        tensor = self.stored_seed
        if tensor.is_meta:
            return self._first_seed
        if is_fake(tensor):
            original = self._reading.original_seed()
            return self._first_seed if original is None else original
        seed = self._reading.of(tensor)
        if seed != self._known_seed:
            self._check_not_averaged(seed)
            self._known_seed = seed
        return seed

    @seed.setter
    def seed(self, seed: int) -> None:
        """Writes another seed into the buffer.

        Raises:
            UsageError: not an integer from 0 to 2**64 - 1.
        """
        chosen = self._known_seed = check_seed(seed)
        if self.stored_seed.is_meta:
            self._first_seed = chosen
        else:
            with torch.no_grad():
                self.stored_seed.copy_(seed_tensor(chosen, torch.device("cpu")))

    def refresh(self) -> None:
        """Regenerates the tensors that the layer derives from its seed if the seed has changed. Default: no-op."""

    def _store_seed(self, seed: int | None, device: torch.device | str | None) -> None:
        """Registers both buffers on `device`, or on the CPU if `device` is meta, which would lose their values."""
        self._first_seed, self.seed_is_drawn = (draw_seed(), True) if seed is None else (check_seed(seed), False)
        self._known_seed = self._first_seed
        self._reading, self._ranks = Reading(), ranks.Agreement()
        where = torch.empty(0, device=device).device
        for name in BUFFERS:
            self.register_buffer(name, self._original(name, torch.device("cpu") if where.type == "meta" else where))
        self._reading.note(self.stored_seed)

    @property
    def traceable_seed(self) -> int | Tensor:
        """The seed to compute with: an int, or the buffer itself if its value is not known yet.

        The value is not known under torch.compile and torch.export, whose programs take the buffer as an input, and
        under torch.func.vmap over the buffers of several models.
        """
        if torch.compiler.is_compiling() or is_fake(self.stored_seed):
            return self.stored_seed
        try:
            seed = self.seed
        except RuntimeError:  # the values cannot be read under vmap
            return self.stored_seed
        self._ranks.compare(type(self).__name__, seed)
        return seed

    def _original(self, name: str, device: torch.device) -> Tensor:
        if name == SEED:
            return seed_tensor(self._first_seed, device)
        return configuration.encoded(self.configuration(), device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Overrides nn.Module._apply: both buffers move to the new device and keep their values and dtypes."""
        before = [self.get_buffer(name) for name in BUFFERS]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        emptied = _empties(fn)
        for name, old in zip(BUFFERS, before, strict=True):
            now = self.get_buffer(name)
            if emptied and not now.is_meta:
                self._buffers[name] = self._original(name, now.device)
            elif now.dtype != old.dtype:
                self._buffers[name] = old.to(now.device)
        self._reading.note(self.stored_seed)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Restores the seed and compares the configuration.

        Raises:
            UsageError: the configuration differs, the seed is not one int64 value, or the checkpoint has no seed and
                the layer drew its own.
        """
        where = prefix.rstrip(".") or type(self).__name__
        seed, config = prefix + SEED, prefix + CONFIGURATION
        if config in state_dict:
            configuration.check(where, self.configuration(), state_dict[config])
            if state_dict[config].shape != self.layer_config.shape:
                state_dict[config] = self.layer_config
        if seed in state_dict:
            state_dict[seed] = _checked(where, state_dict[seed])
        elif any(key.startswith(prefix) for key in state_dict):
            self._keep_seed(where)
            state_dict[seed] = self.stored_seed
            state_dict.setdefault(config, self.layer_config)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._reading.note(self.stored_seed)
        self._known_seed = None

    def _check_not_averaged(self, seed: int) -> None:
        """Raises a UsageError if arithmetic changed the buffers: it rounds the seed and damages the configuration."""
        name, known = type(self).__name__, self._known_seed
        rounded = known is not None and _is_rounded(seed, known)
        try:
            configuration.check(name, self.configuration(), self.layer_config)
            damaged = False
        except UsageError:
            damaged = True
        if rounded or damaged:
            raise UsageError(
                f"{SEED} and {CONFIGURATION} of a {name} were averaged or rounded: the seed {known} became {seed}. "
                "Average only the parameters and copy the buffers, as AveragedModel(use_buffers=False) does."
            )

    def _keep_seed(self, where: str) -> None:
        """Keeps the seed of the layer, for a checkpoint that was saved before seeds were stored."""
        if self.seed_is_drawn:
            raise UsageError(
                f"the checkpoint has no seed for {where}, and the layer was built without one. Build the layer with "
                "the seed that it was trained with: seed=..., or seed=0 if it was trained without a seed."
            )
        warnings.warn(
            f"the checkpoint has no seed for {where}. The layer keeps the seed that it was built with, {self.seed}. "
            "Save the model again to store the seed.",
            stacklevel=2,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, Tensor) and "_ranks" in self.__dict__ and name not in self._buffers:
            self._agree(value)

    def _agree(self, value: Tensor) -> None:
        """Agrees on one seed with the other ranks if `value` shows that FSDP has wrapped the layer."""
        if not self._ranks.is_due(value):
            return
        seed = self.seed
        agreed = self._ranks.agreed_seed(value, seed, self.seed_is_drawn)
        if agreed != seed:
            self.seed = self._first_seed = agreed  # to_empty() comes after fully_shard() for models on the meta device

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._reading.note(self.stored_seed)


def holds_weights(name: str) -> bool:
    """Whether the state dict entry `name` holds weights, as opposed to a seed or a configuration."""
    return name.rpartition(".")[2] not in BUFFERS


def mark_drawn(module: nn.Module, seed: int) -> None:
    """Records in all layers of `module` that use `seed` that it was drawn, because none was given."""
    for part in module.modules():
        if isinstance(part, Seeded) and part.seed == seed:
            part.seed_is_drawn = True


def _is_rounded(seed: int, known: int) -> bool:
    """Whether `seed` is close enough to `known` to be its float32 rounding. Among drawn seeds, one pair in a million
    is as close by chance.
    """
    signed, other = ((number + 2**63) % 2**64 - 2**63 for number in (seed, known))
    return 0 < abs(signed - other) <= abs(other) >> 20


def _checked(where: str, value: Any) -> Tensor:
    if isinstance(value, Tensor) and value.dtype == torch.int64 and value.numel() == 1:
        return value.reshape(())
    actual = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise UsageError(
        f"the seed of {where} in the checkpoint must be one torch.int64 value, got {actual}. Save the state dict "
        f"without converting {SEED}: other dtypes round it."
    )


def _empties(fn: Callable[[Tensor], Tensor]) -> bool:
    """Whether `fn` creates tensors without reading values, as in to_empty(). Such a function accepts meta tensors."""
    try:
        return not fn(torch.empty((), dtype=torch.int64, device="meta")).is_meta
    except Exception:  # a meta tensor has no values to copy, and a function of the user may raise anything
        return False
