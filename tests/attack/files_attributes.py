"""Models whose edgefc nodes have an attribute with an invalid value or type, a repeated one, or a missing one."""

import random
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper

from tests.attack import files_models
from tests.attack.files_models import Base
from tests.attack.files_targets import Target, estimate, inspect, profile, session, verify
from tests.attack.harness import Case
from tests.attack.outcome import Outcome

COUNT = 1400
prepare = files_models.write_all

_INTEGERS = (
    0, -1, 1, 2, 3, 7, 8, 11, 13, 24, 255, 4096, 65536, 2**30, 2**31 - 1, 2**31, 2**32 + 12, 2**40, 2**61, 2**62,
    2**63 - 1, -(2**31), -(2**63),
)  # fmt: skip
_FLOATS = (0.0, -1.0, 1e-45, 1e38, float("nan"), float("inf"), float("-inf"))
_TEXTS = (b"", b"text", b"\xff\xfe", b"\x00", b"\x1b[31mred", b"a" * 5000, "größer".encode(), b"%s%n{}\n")
_TARGETS: tuple[tuple[str, Target], ...] = (
    ("Session, native on", lambda model, base, rng: session(model, "on")),
    ("Session, native off", lambda model, base, rng: session(model, "off")),
    ("inspect", inspect),
    ("Session, native auto", lambda model, base, rng: session(model, "auto")),
    ("Session, native on", lambda model, base, rng: session(model, "on")),
    ("estimate", estimate),
    ("inspect", inspect),
    ("Session, native on", lambda model, base, rng: session(model, "on")),
    ("Session, native off", lambda model, base, rng: session(model, "off")),
    ("verify", verify),
)


def case(rng: random.Random, number: int, folder: Path) -> Case:
    """Iterate over the attributes of all operators. Changes and targets cycle with other periods."""
    places = [
        (base, index)
        for base in files_models.bases()
        if (nodes := _nodes(folder, base))
        for index in range(len(nodes[0].attribute))
    ]
    base, index = places[number % len(places)]
    what, target = _TARGETS[(number + number // len(places)) % len(_TARGETS)]
    if number % 200 == 199:
        what, target = "profile", profile
    model = onnx.load(folder / base.files[0], load_external_data=False)
    node = next(node for node in model.graph.node if node.domain == "edgefc")
    said = _changed(node, index, rng)

    def act(work: Path) -> int | Outcome | None:
        for name in base.files[1:]:
            (work / name).write_bytes((folder / name).read_bytes())
        (work / base.files[0]).write_bytes(model.SerializeToString())
        return target(Path(base.files[0]), base, rng)

    return Case(f"{base.name}: {said}; {what}", act, limit_s=60)


def _nodes(folder: Path, base: Base) -> list[NodeProto]:
    model = onnx.load(folder / base.files[0], load_external_data=False)
    return [node for node in model.graph.node if node.domain == "edgefc"]


def _changed(node: NodeProto, index: int, rng: random.Random) -> str:
    """Change the attribute with this index, in place."""
    attribute = node.attribute[index]
    kept, name = AttributeProto(), attribute.name
    kept.CopyFrom(attribute)
    same: Callable[[NodeProto, AttributeProto, random.Random], str] = {
        AttributeProto.INT: _integer, AttributeProto.FLOAT: _float, AttributeProto.STRING: _text,
    }.get(kept.type, _list)  # fmt: skip
    del node.attribute[index]
    change = rng.choice((same, same, same, _other_type, _other_type, _gone, _twice, _strange))
    return f"{name}: {change(node, kept, rng)}"


def _integer(node: NodeProto, kept: AttributeProto, rng: random.Random) -> str:
    kept.i = rng.choice(
        (*_INTEGERS, max(-(2**63), kept.i - 1), min(2**63 - 1, kept.i + 1), rng.getrandbits(64) - 2**63)
    )
    node.attribute.append(kept)
    return str(kept.i)


def _float(node: NodeProto, kept: AttributeProto, rng: random.Random) -> str:
    kept.f = rng.choice(_FLOATS)
    node.attribute.append(kept)
    return str(kept.f)


def _text(node: NodeProto, kept: AttributeProto, rng: random.Random) -> str:
    kept.s = rng.choice(_TEXTS)
    node.attribute.append(kept)
    return str(kept.s[:30])


def _list(node: NodeProto, kept: AttributeProto, rng: random.Random) -> str:
    values = list(helper.get_attribute_value(kept))
    odd = rng.choice(_INTEGERS if kept.type == AttributeProto.INTS else _FLOATS)
    at = rng.randrange(len(values) or 1)
    changed = rng.choice((
        values[:-1], [*values, odd], [], [*values[:at], odd, *values[at + 1 :]], [odd] * len(values), values * 1000,
        list(reversed(values)),
    ))  # fmt: skip
    field = kept.ints if kept.type == AttributeProto.INTS else kept.floats
    del field[:]
    field.extend(changed)
    node.attribute.append(kept)
    return f"{len(changed)} values, {changed[:4]}"


def _other_type(node: NodeProto, kept: AttributeProto, rng: random.Random) -> str:
    value = rng.choice((
        1, 1.5, "text", [1, 2], [1.0], ["a"], helper.make_tensor("t", TensorProto.INT64, [1], [3]),
        helper.make_graph([], "g", [], []),
    ))  # fmt: skip
    node.attribute.append(helper.make_attribute(kept.name, value))
    return f"of type {type(value).__name__}"


def _gone(node: NodeProto, kept: AttributeProto, rng: random.Random) -> str:
    return "gone"


def _twice(node: NodeProto, kept: AttributeProto, rng: random.Random) -> str:
    node.attribute.extend([kept, kept])
    if kept.type == AttributeProto.INT and rng.random() < 0.7:
        node.attribute[-1].i = rng.choice(_INTEGERS)
    return "twice"


def _strange(node: NodeProto, kept: AttributeProto, rng: random.Random) -> str:
    """A declared type that differs from the value's, a reference outside of a function, another name."""
    what = rng.choice(("type", "undefined", "reference", "name", "other"))
    if what == "type":
        kept.type = rng.choice((AttributeProto.FLOATS, AttributeProto.STRINGS, AttributeProto.TENSOR))
    elif what == "undefined":
        kept.type = AttributeProto.UNDEFINED
    elif what == "reference":
        kept.ref_attr_name = kept.name
    elif what == "name":
        kept.name = rng.choice(("", "x" * 5000, "\x1b[2J", "größe"))
    else:
        node.attribute.append(helper.make_attribute("surplus", 2**63 - 1))
    node.attribute.append(kept)
    return f"strange: {what}"
