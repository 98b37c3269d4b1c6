"""The state of a training in a folder, so that an interrupted distil() goes on where it was.

    rank-0.safetensors    the trained values, the best ones, the moments of the optimizer; a JSON text in its metadata

The text has a fingerprint of the student, the teacher, the data and the settings. A file with another one is an error.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from edgefc.errors import UsageError, describe_error, first_line
from edgefc.files import exists, staged, writing
from edgefc.training import ranks

_KEY = "edgefc.distil"
_EVERY_S, _SHARE = 60.0, 20
_ADVICE = "Give another folder, or remove this one."


class Store:
    """The file of this rank. It is written at most once a minute, and so that writing takes a twentieth of the time.

    Several ranks keep the file before, too, as rank-0.previous.safetensors: when they are killed, some may have written
    and others not.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.path, self._fingerprint = folder / f"rank-{ranks.rank()}.safetensors", fingerprint
        self._previous = self.path.with_suffix(".previous.safetensors")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._next = time.monotonic() + _EVERY_S

    def is_due(self) -> bool:
        return bool(ranks.agreed(float(time.monotonic() >= self._next)))

    def write(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Replaces the file.

        Raises:
            UsageError: it cannot be written.
        """
        from safetensors.torch import save_file

        start = time.monotonic()
        text = json.dumps({"fingerprint": self._fingerprint, **record})
        if ranks.world() > 1 and self.path.exists():
            with writing(self._previous):
                os.replace(self.path, self._previous)
        with staged(self.path) as file:
            save_file({name: each.contiguous() for name, each in tensors.items()}, file, {_KEY: text})
        ranks.agreed(0.0)  # no rank goes on before all have written
        end = time.monotonic()
        self._next = end + max(_EVERY_S, _SHARE * (end - start))

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Returns what was written last, by all ranks; None without a file.

        Raises:
            UsageError: a file is damaged, or is that of another training, or the ranks have not the same steps.
        """
        found = [each for path in (self.path, self._previous) if exists(path) and (each := self._open(path))]
        steps = [int(record["step"]) for _, record in found]
        common = [step for step in sorted({*ranks.gathered(steps)}, reverse=True) if ranks.everywhere(step in steps)]
        if not common:
            if ranks.everywhere(not found):
                return None
            raise UsageError(f"the files in {self.path.parent} are not those of all ranks. {_ADVICE}")
        return found[steps.index(common[0])]

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turns errors of what a file contains into a UsageError."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"cannot read {self.path}: {describe_error(error)}. {_ADVICE}") from None

    def _open(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        from safetensors import safe_open

        try:
            with safe_open(path, "pt") as file:
                record = json.loads((file.metadata() or {})[_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            found, _ = record.pop("fingerprint"), int(record["step"])
        except Exception as error:  # safetensors raises errors of many classes
            raise UsageError(f"cannot read {path}: {first_line(error)}. {_ADVICE}") from None
        if found != self._fingerprint:
            raise UsageError(
                f"{path} is the state of a training with another student, teacher, data or settings. {_ADVICE}"
            )
        return tensors, record
