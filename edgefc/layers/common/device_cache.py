"""A cache of the tensors that a layer generates from its seed."""

from collections.abc import Callable

import torch
from torch import Tensor


class DeviceCache:
    """Tensors that are generated on first use and kept as long as the layer exists. Copies and pickles exclude them."""

    _held: tuple[object, tuple[Tensor, ...]] | None = None

    def get(self, seed: int | Tensor, like: Tensor, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Returns the cached result of make() for this seed and the dtype and device of `like`, or calls make().

        If the seed is a tensor, it comes from a tracer (Seeded.traceable_seed), and the result is not cached.
        """
        key, kept = (seed, like.dtype, like.device), self._held
        if isinstance(seed, Tensor):
            return make()
        if kept is not None and kept[0] == key:
            return kept[1]
        with torch.inference_mode(False), torch.no_grad():  # training may use the cached tensors later
            made = make()
        if all(type(tensor) is Tensor for tensor in made):  # later calls cannot use a tracer's fake tensors
            self._held = key, made
        return made

    def __getstate__(self) -> dict[str, object]:
        return {}
