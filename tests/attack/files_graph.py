"""Hostile graphs, initializers and external data, each passed to Session and to every command."""

import random
from pathlib import Path

from tests.attack.files_graph_external import EXTERNAL
from tests.attack.files_graph_work import GRAPHS
from tests.attack.files_models import Base
from tests.attack.files_targets import Target, estimate, export_over, inspect, profile, sent, session, verify
from tests.attack.harness import Case
from tests.attack.outcome import Outcome

_TARGETS: tuple[tuple[str, Target], ...] = (
    ("Session, native off", lambda model, base, rng: session(model, "off")),
    ("inspect", inspect),
    ("Session, native auto", lambda model, base, rng: session(model, "auto")),
    ("estimate", estimate),
    ("sent", sent),
    ("verify", verify),
    ("profile", profile),
    ("export over it", export_over),
)
_MODELS = {**GRAPHS, **EXTERNAL}
COUNT = len(_MODELS) * len(_TARGETS)


def case(rng: random.Random, number: int, folder: Path) -> Case:
    """Iterate over the models, each time with another target, until every model was used with every target."""
    names = list(_MODELS)
    name = names[number % len(names)]
    what, target = _TARGETS[(number + number // len(names)) % len(_TARGETS)]

    def act(work: Path) -> int | Outcome | None:
        _MODELS[name](work / "model.onnx")
        return target(Path("model.onnx"), Base(name, ("model.onnx",)), rng)

    return Case(f"{name}; {what}", act, limit_s=60 if target is profile else 30)
