"""What a layer makes from its seed on first use and keeps."""

from collections.abc import Callable

import torch
from torch import Tensor


class DeviceCache:
    """Tensors made on first use and kept while the layer lives, but left out of copies and pickles."""

    _held: tuple[object, tuple[Tensor, ...]] | None = None

    def get(self, seed: int | Tensor, like: Tensor, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What make() gave for the same seed and the dtype and device of `like`, or gives now.

        A seed that is a tensor belongs to a tracer (Seeded.traceable_seed), and nothing is kept.
        """
        wanted, kept = (seed, like.dtype, like.device), self._held
        if isinstance(seed, Tensor):
            return make()
        if kept is not None and kept[0] == wanted:
            return kept[1]
        with torch.inference_mode(False), torch.no_grad():  # what inference makes first, training may need later
            made = make()
        if all(type(tensor) is Tensor for tensor in made):  # a tracer's stand-in is of no use to later calls
            self._held = wanted, made
        return made

    def __getstate__(self) -> dict[str, object]:
        return {}
