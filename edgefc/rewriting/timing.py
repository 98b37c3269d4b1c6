"""What the candidates of a file cost in time on a device.

Each layer is timed alone, as it is and as each candidate: a model of one layer with random weights of its shape, for as
many vectors as it gets in a run. Layers of the same shape are one measurement. The predicted time of a plan is that of
the original file, less the layers that it replaces, plus what replaces them. A weight that is only stored in another
form costs the time that it cost before, because onnxruntime converts it when it loads the file.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgefc.choosing.costs import Costs
from edgefc.choosing.subject import Unit
from edgefc.latency.clock import Clock, Timed
from edgefc.plan.configurations import Configuration
from edgefc.plan.rules import configuration_record
from edgefc.progress import steps
from edgefc.rewriting.feeds import Feeds
from edgefc.rewriting.finding import TABLE, Place
from edgefc.rewriting.moments import is_transposed, observed
from edgefc.rewriting.probing import Prober
from edgefc.rewriting.single import Layer
from edgefc.rewriting.subject import FileSubject
from edgefc.runtime.session import Session
from edgefc.temporary import folder

Case = tuple[Layer, int]
"""A layer, and the vectors that it gets in a run."""


def first_sample(samples: Sequence[Feeds], *, batched: bool) -> dict[str, Any]:
    """The feeds of a run that is timed: one sample."""
    feeds = {name: np.asarray(array) for name, array in samples[0].items()}
    return {name: array[:1] if batched and array.ndim else array for name, array in feeds.items()}


def costs_of(subject: FileSubject, clock: Clock, feeds: Feeds) -> Costs:
    """The costs of all units and candidates, in microseconds.

    Candidates of a layer in the body of a Loop or Scan have no cost, because its runs are not known.

    Raises:
        ModelError: the device cannot run a layer or the file.
        DeviceError: the connection is lost.
    """
    cases = _cases(subject, feeds)
    wanted = dict[Case, dict[Configuration, None]]()
    for unit in subject.units:
        for case in cases.get(unit.name, ()):
            wanted.setdefault(case, {}).update(dict.fromkeys(_changing(subject, unit)))
    times = {case: _timed(case, list(own), clock) for case, own in steps(list(wanted.items()), "timing layers")}
    before, after = dict[str, float](), dict[tuple[str, Configuration], float]()
    for unit in subject.units:
        own = [times[case] for case in cases.get(unit.name, ())]
        before[unit.name] = sum(each[None] for each in own)
        changing = _changing(subject, unit)
        for to in unit.configurations:
            if to not in changing:
                after[unit.name, to] = before[unit.name]
            elif unit.name in cases:
                after[unit.name, to] = sum(each[to] for each in own)
    (whole,) = clock.measure([subject.source], inputs=feeds)
    return Costs("microseconds", whole - sum(before.values()), before, after)


def _changing(subject: FileSubject, unit: Unit) -> list[Configuration]:
    """The configurations for which other nodes run."""
    return [to for to in unit.configurations if subject.is_fitted(unit, to)]


def _timed(case: Case, configurations: Sequence[Configuration], clock: Clock) -> dict[Configuration | None, float]:
    """The times of a layer as it is (None) and as each configuration."""
    (layer, rows), every = case, [None, *configurations]
    ranges = {"x": (0, layer.shape[0] - 1)} if layer.op == "Gather" else None
    timed = [Timed(_facts(case, to), lambda path, to=to: ir.save(layer.model(rows, to), path)) for to in every]  # type: ignore[misc]
    return dict(zip(every, clock.times(timed, ranges), strict=True))


def _facts(case: Case, to: Configuration | None) -> Mapping[str, object]:
    layer, rows = case
    becomes = None if to is None else configuration_record(to)
    return {
        "layer": {**vars(layer), "dtype": layer.dtype.name, "shape": list(layer.shape)},
        "rows": rows,
        "to": becomes,
    }


def _cases(subject: FileSubject, feeds: Feeds) -> dict[str, list[Case]]:
    """The layers of each unit whose nodes can be replaced, without those that do not run with these feeds.

    A unit with a layer in the body of a Loop or Scan is left out.
    """
    rows = _rows(subject, feeds)
    found = dict[str, list[Case]]()
    for unit in subject.units:
        layer = subject.layer_of(unit)
        counts = [rows.get(at) for at in subject.places_of(unit)]
        if layer is not None and None not in counts:
            found[unit.name] = [(layer, count) for count in counts if count]
    return found


def _rows(subject: FileSubject, feeds: Feeds) -> dict[int, int]:
    """The vectors, or look-ups, that each place of a replaceable unit gets, by the index of the place."""
    model, places = subject.read()
    prober, names = Prober(model), dict[int, str]()
    for unit in subject.units:
        for at in subject.places_of(unit) if subject.layer_of(unit) is not None else ():
            place = places[at]
            dtype = ir.DataType.INT64 if place.kind == TABLE else place.dtype
            name = prober.output(observed(place), place.graph, dtype)
            if name is not None:
                names[at] = name
    if not names:
        return {}
    with folder("edgefc-rows-") as where:
        ir.save(model, Path(where, "rows.onnx"), external_data="rows.data")
        session = Session(Path(where, "rows.onnx"), native="off")
        values = dict(zip(names, session.run(list(names.values()), feeds), strict=True))
    return {at: _vectors(value, places[at]) for at, value in values.items()}


def _vectors(value: Any, place: Place) -> int:
    if place.kind == TABLE:
        return int(value.size)
    return math.prod(value.shape[1:] if is_transposed(place) else value.shape[:-1]) if value.size else 0
