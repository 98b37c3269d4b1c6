"""Keeps the results of a sweep in a folder, so that an interrupted one goes on where it was.

    units/NAME.json      the swaps of a unit; NAME.fits: what Subject.pack() gave
    plans/HASH.json      the loss or the metric of a plan

Each file has the fingerprint of the subject. A file with another one is an error. Files are written atomically.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgefc.choosing.subject import Choices, Subject, Swap, Unit
from edgefc.errors import UsageError, first_line, reason_of
from edgefc.files import staged, write_text, writing
from edgefc.plan.reading import configuration_of
from edgefc.plan.rules import configuration_record

_ADVICE = "Give another folder, or remove this one."


class Store:
    """A folder with results; without a folder it keeps the measured plans of this run only."""

    def __init__(self, folder: Path | None, subject: Subject) -> None:
        self._folder, self._subject = folder, subject
        self._measured: dict[str, Any] = {}
        if folder is not None:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def swaps(self, unit: Unit) -> list[Swap] | None:
        """Returns the stored swaps of a unit and gives its fits to the subject. Returns None if nothing is stored.

        Raises:
            UsageError: a file is damaged, or belongs to another model, other data or other settings.
        """
        path = self._unit(unit)
        found = None if path is None else self._read(path)
        if path is None or found is None:
            return None
        try:
            swaps = [Swap(**{**each, "configuration": configuration_of(each["configuration"])}) for each in found[0]]
            content = path.with_suffix(".fits").read_bytes()
        except (OSError, KeyError, TypeError) as error:
            raise UsageError(f"cannot read {path}: {first_line(error)}. {_ADVICE}") from None
        self._subject.unpack(unit, content)
        return swaps

    def keep(self, unit: Unit, swaps: list[Swap], pack: Callable[[Unit], bytes]) -> None:
        """Stores the swaps of a unit, and the fits that `pack` returns. Does nothing without a folder."""
        path = self._unit(unit)
        if path is None:
            return
        with staged(path.with_suffix(".fits")) as file:
            file.write_bytes(pack(unit))
        # last, because it says that the unit is complete
        self._write(path, [{**vars(each), "configuration": configuration_record(each.configuration)} for each in swaps])

    def loss(self, choices: Choices) -> float:
        """Subject.loss(), measured once for each plan."""
        value: float = self._plan(choices, "loss")
        return value

    def metric(self, choices: Choices) -> float | None:
        """Subject.metric(), measured once for each plan."""
        value: float | None = self._plan(choices, "metric")
        return value

    def _plan(self, choices: Choices, what: str) -> Any:
        text = json.dumps(sorted((name, configuration_record(to)) for name, to in choices.items()))
        key = f"{hashlib.sha256(text.encode()).hexdigest()[:24]}-{what}"
        if key not in self._measured:
            path = None if self._folder is None else self._folder / "plans" / f"{key}.json"
            found = None if path is None else self._read(path)
            self._measured[key] = getattr(self._subject, what)(choices) if found is None else found[0]
            if path is not None and found is None:
                self._write(path, self._measured[key])
        return self._measured[key]

    def _unit(self, unit: Unit) -> Path | None:
        name = hashlib.sha256(unit.name.encode()).hexdigest()[:8]
        readable = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in unit.name)[-80:]
        return None if self._folder is None else self._folder / "units" / f"{readable}-{name}.json"

    def _read(self, path: Path) -> tuple[Any] | None:
        """The result in a file; None if there is no file."""
        try:
            content = json.loads(path.read_bytes())
            fingerprint, result = content["fingerprint"], content["result"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"cannot read {path}: {reason_of(error)}. {_ADVICE}") from None
        if fingerprint != self._subject.fingerprint:
            raise UsageError(f"{path} belongs to another model, other data or other settings. {_ADVICE}")
        return (result,)

    def _write(self, path: Path, result: Any) -> None:
        write_text(path, json.dumps({"fingerprint": self._subject.fingerprint, "result": result}) + "\n")
