"""Finds the entry points with which other installed packages register layers, operators and transports.

[project.entry-points."edgefc.layers"]       a module with ENTRIES: `edgefc layers` lists its layers
scaled = "mypackage.layers.scaled"

[project.entry-points."edgefc.operators"]    an edgefc.export.operator.Operator
ScaledLinear = "mypackage.operators:SCALED"

[project.entry-points."edgefc.transports"]   a subclass of edgefc.devices.transports.base.Transport
serial = "mypackage.serial:SerialTransport"
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from edgefc.errors import EdgefcError, UsageError, describe_error

T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """One entry point."""

    point: EntryPoint

    @property
    def name(self) -> str:
        return self.point.name

    @property
    def where(self) -> str:
        """The name of the package and the registered object, for messages."""
        package = self.point.dist.name if self.point.dist else "a package"
        return f"{package} ({self.point.value})"

    def load(self, kind: type[T]) -> T:
        """Import the registered object.

        Raises:
            UsageError: the import fails, or the object is not an instance of `kind`.
        """
        value = self._loaded()
        if not isinstance(value, kind):
            raise self._refused(f"it is a {type(value).__name__}, not an instance of {kind.__name__}")
        return value

    def load_class(self, kind: type[T]) -> type[T]:
        """Import the registered class.

        Raises:
            UsageError: the import fails, or the object is not a subclass of `kind`.
        """
        value = self._loaded()
        if not (isinstance(value, type) and issubclass(value, kind)):
            raise self._refused(f"it is not a subclass of {kind.__name__}")
        return value

    def _loaded(self) -> object:
        try:
            loaded: object = self.point.load()
        except EdgefcError:
            raise
        except Exception as error:  # code of the other package
            raise self._refused(describe_error(error)) from None
        return loaded

    def _refused(self, reason: str) -> UsageError:
        return UsageError(
            f"cannot use the entry point {self.point.name!r} of {self.point.group} in {self.where}: {reason}. "
            "Update or uninstall that package."
        )


def plugins(group: str) -> list[Plugin]:
    """The entry points of a group, sorted by name and value, without duplicates."""
    points = {(point.name, point.value): Plugin(point) for point in entry_points(group=group)}
    return [points[key] for key in sorted(points)]
