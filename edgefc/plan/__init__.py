"""Plans: which layers of a model become which structured or quantised layers.

    configurations.py  what a layer can become: Int4(group=32), LowRank(ratio=4), ...
    rules.py           Rule and Plan: patterns of module names, and the configuration for each
    reading.py         plan_of(): a plan from a TOML or JSON file, or from Python objects
    schema.py          the JSON Schema of a plan
    report.py          what replace() did: layer by layer, and for the whole model

The names below are imported on first use. Their packages are in the extra [measure]. Imports neither torch nor onnx.
"""

from typing import TYPE_CHECKING

from edgefc.lazy import lazy

if TYPE_CHECKING:
    from edgefc.plan.configurations import PRP as PRP
    from edgefc.plan.configurations import Bilinear as Bilinear
    from edgefc.plan.configurations import Circulant as Circulant
    from edgefc.plan.configurations import Configuration as Configuration
    from edgefc.plan.configurations import EUGen as EUGen
    from edgefc.plan.configurations import Half as Half
    from edgefc.plan.configurations import Int2 as Int2
    from edgefc.plan.configurations import Int3 as Int3
    from edgefc.plan.configurations import Int4 as Int4
    from edgefc.plan.configurations import Int8 as Int8
    from edgefc.plan.configurations import Keep as Keep
    from edgefc.plan.configurations import LowRank as LowRank
    from edgefc.plan.configurations import Monarch as Monarch
    from edgefc.plan.configurations import Tied as Tied
    from edgefc.plan.reading import plan_of as plan_of
    from edgefc.plan.rules import Plan as Plan
    from edgefc.plan.rules import Rule as Rule

_CONFIGURATIONS = (
    "Bilinear", "Circulant", "Configuration", "EUGen", "Half", "Int2", "Int3", "Int4", "Int8", "Keep", "LowRank",
    "Monarch", "PRP", "Tied",
)  # fmt: skip
_NAMES = {
    **dict.fromkeys(_CONFIGURATIONS, "edgefc.plan.configurations"),
    "Plan": "edgefc.plan.rules",
    "Rule": "edgefc.plan.rules",
    "plan_of": "edgefc.plan.reading",
}

__all__ = [
    "PRP",
    "Bilinear",
    "Circulant",
    "Configuration",
    "EUGen",
    "Half",
    "Int2",
    "Int3",
    "Int4",
    "Int8",
    "Keep",
    "LowRank",
    "Monarch",
    "Plan",
    "Rule",
    "Tied",
    "plan_of",
]

if not TYPE_CHECKING:  # type checkers know the names above only
    __getattr__, __dir__ = lazy(__name__, _NAMES, "measure")
