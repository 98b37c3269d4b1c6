"""What a layer writes into a state dict beside its weights: its seed and its configuration.

    stored_seed     () int64        the seed of 64 bits, in two's complement; the only source of the layer's seed
    layer_config    (128 k,) uint8  everything else that decides what the weights mean, see configuration.py

Loading adopts the seed and compares the configuration. Both are buffers, because whatever handles a state dict handles
buffers: safetensors stores tensors only, FSDP and torch.distributed.checkpoint walk the buffers, and accelerate assigns
them by name. get_extra_state(), the other choice, is unknown to some of them. An .onnx file holds neither: there the
seed and the configuration are attributes of the node.
"""

import warnings
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.generator import check_seed
from edgefc.layers.common import configuration, ranks
from edgefc.layers.common.seed_reading import Reading, drawn, is_stand_in, tensor_of

SEED, CONFIGURATION = BUFFERS = "stored_seed", "layer_config"
"""The names of both buffers. They are no weights: see holds_weights()."""


class Seeded(nn.Module):
    """Base class of layers that compute with a seed. A layer calls _store_seed() once its configuration() is complete.

    A seed of None is drawn from torch's generator on the CPU, also under a meta device. Both buffers keep their values
    and dtypes in half(), to() and the like; to_empty() restores the seed that the constructor was given or drew. Under
    DistributedDataParallel and FSDP2 all ranks use the seed of the first; under FSDP1 other seeds are refused unless
    sync_module_states=True has made them equal.
    """

    stored_seed: Tensor
    layer_config: Tensor
    seed_is_drawn: bool
    """Whether nobody chose the seed: a checkpoint without one is then refused."""
    _known_seed: int | None = None

    def configuration(self) -> configuration.Configuration:
        """What else decides what the weights mean, by name; "layer" is the name of the class."""
        raise NotImplementedError  # each layer has its own; nn.Module has no abstract methods

    @property
    def seed(self) -> int:
        """The seed in `stored_seed`, from 0 to 2**64 - 1; that of the constructor while the buffer is a meta tensor.

        While a tracer replaces the buffer, the seed in the buffer itself.

        Raises:
            UsageError: the buffers were averaged, as moving averages of a whole state dict do.
        """
        tensor = self.stored_seed
        if tensor.is_meta:
            return self._first_seed
        if is_stand_in(tensor):
            found = self._reading.behind_stand_in()
            return self._first_seed if found is None else found
        seed = self._reading.of(tensor)
        if seed != self._known_seed:
            self._check_not_averaged(seed)
            self._known_seed = seed
        return seed

    @seed.setter
    def seed(self, seed: int) -> None:
        """Write another seed into the buffer.

        Raises:
            UsageError: not a whole number of 64 bits.
        """
        chosen = self._known_seed = check_seed(seed)
        if self.stored_seed.is_meta:
            self._first_seed = chosen
        else:
            with torch.no_grad():
                self.stored_seed.copy_(tensor_of(chosen, torch.device("cpu")))

    def refresh(self) -> None:
        """Make again what the layer keeps of its seed, where the seed has changed since. Nothing by default."""

    def _store_seed(self, seed: int | None, device: torch.device | str | None) -> None:
        """Register both buffers on `device`, or on the CPU in the place of the meta device, which would lose them."""
        self._first_seed, self.seed_is_drawn = (drawn(), True) if seed is None else (check_seed(seed), False)
        self._known_seed = self._first_seed
        self._reading, self._ranks = Reading(), ranks.Agreement()
        where = torch.empty(0, device=device).device
        for name in BUFFERS:
            self.register_buffer(name, self._original(name, torch.device("cpu") if where.type == "meta" else where))
        self._reading.note(self.stored_seed)

    @property
    def traceable_seed(self) -> int | Tensor:
        """The seed to compute with: a number, or the tensor itself where its value is open.

        It is open under torch.compile and torch.export, whose programs take the buffer as an input, and under
        torch.func.vmap over the buffers of several models.
        """
        if torch.compiler.is_compiling() or is_stand_in(self.stored_seed):
            return self.stored_seed
        try:
            seed = self.seed
        except RuntimeError:  # vmap lets nobody read
            return self.stored_seed
        self._ranks.compare(type(self).__name__, seed)
        return seed

    def _original(self, name: str, device: torch.device) -> Tensor:
        if name == SEED:
            return tensor_of(self._first_seed, device)
        return configuration.encoded(self.configuration(), device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Where nn.Module changes device and dtype: both buffers follow to the device and keep value and dtype."""
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
        """Adopt the seed and compare the configuration.

        Raises:
            UsageError: another configuration, a seed that is no int64 number, or none for a layer that drew its own.
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
        """Refuse a change of the buffers by arithmetic, which rounds a seed and damages the configuration."""
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
                "Average the parameters only and copy the buffers, as AveragedModel(use_buffers=False) does."
            )

    def _keep_seed(self, where: str) -> None:
        """For a checkpoint from before seeds were stored."""
        if self.seed_is_drawn:
            raise UsageError(
                f"the checkpoint has no seed for {where}, and the layer was built without one. Build it with the seed "
                "that it was trained with: seed=..., or seed=0 where none was given at that time."
            )
        warnings.warn(
            f"the checkpoint has no seed for {where}, which keeps the seed that it was built with, {self.seed}. "
            "Save the model again to store the seed.",
            stacklevel=2,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, Tensor) and "_ranks" in self.__dict__ and name not in self._buffers:
            self._agree(value)

    def _agree(self, value: Tensor) -> None:
        """On one seed with the other ranks, where `value` says that FSDP has taken over the layer."""
        if not self._ranks.is_due(value):
            return
        seed = self.seed
        agreed = self._ranks.reach(value, seed, self.seed_is_drawn)
        if agreed != seed:
            self.seed = self._first_seed = agreed  # to_empty() comes after fully_shard() for models on the meta device

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._reading.note(self.stored_seed)


def holds_weights(name: str) -> bool:
    """Whether the entry `name` of a state dict holds weights, and not a seed or a configuration."""
    return name.rpartition(".")[2] not in BUFFERS


def mark_drawn(module: nn.Module, seed: int) -> None:
    """Say of the layers in `module` that were given `seed` that nobody chose it."""
    for part in module.modules():
        if isinstance(part, Seeded) and part.seed == seed:
            part.seed_is_drawn = True


def _is_rounded(seed: int, known: int) -> bool:
    """Whether `seed` is what float32 makes of `known`. Of two drawn seeds one in a million pairs is so close."""
    signed, other = ((number + 2**63) % 2**64 - 2**63 for number in (seed, known))
    return 0 < abs(signed - other) <= abs(other) >> 20


def _checked(where: str, value: Any) -> Tensor:
    if isinstance(value, Tensor) and value.dtype == torch.int64 and value.numel() == 1:
        return value.reshape(())
    found = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise UsageError(
        f"the seed of {where} in the checkpoint is {found} and not one number of torch.int64. Save the state dict "
        f"without converting {SEED}: other dtypes round it."
    )


def _empties(fn: Callable[[Tensor], Tensor]) -> bool:
    """Whether `fn` makes tensors without reading values, as that of to_empty(): then it takes a meta tensor too."""
    try:
        return not fn(torch.empty((), dtype=torch.int64, device="meta")).is_meta
    except Exception:  # there is nothing to copy, or a user's function wants something else
        return False
