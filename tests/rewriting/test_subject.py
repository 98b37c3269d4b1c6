"""An .onnx file as a subject of choosing: its swaps against files that are written and run by onnxruntime alone."""

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgefc.choosing.subject import Unit
from edgefc.errors import UsageError
from edgefc.plan import Configuration, Half, Int3, Int4, Int8, LowRank
from edgefc.plan.reading import plan_of
from edgefc.rewriting import replace_file
from edgefc.rewriting.feeds import Given, divided
from edgefc.rewriting.subject import FileSubject
from edgefc.runtime.session import Session
from tests.support.compressing_models import ids, mixed
from tests.support.onnx_models import BOOL, FLOAT, write
from tests.support.rewriting_models import drawn, free, node, run, tied, two_branches

EXACT: tuple[Configuration, ...] = (Half(), Int3(), LowRank(ratio=2))
ROUNDED: tuple[Configuration, ...] = (Int8(group=32), Int4())
"""onnxruntime rounds the inputs of their products to 8 bits."""


def subject(path: Path, data: Given, *configurations: Configuration) -> FileSubject:
    return FileSubject(path, configurations, divided(data, Session(path).inputs))


def unit_of(given: FileSubject, name: str) -> Unit:
    return next(unit for unit in given.units if unit.name == name)


def cosine_loss(old: np.ndarray, new: np.ndarray) -> float:
    a, b = old.astype(np.float64), new.astype(np.float64)
    return float(1 - np.mean((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)))


def test_a_swap_has_the_loss_of_the_written_file(tmp_path: Path) -> None:
    path, data = mixed(tmp_path / "m.onnx"), ids(40)
    given = subject(path, data, *EXACT, *ROUNDED)
    assert [unit.name for unit in given.units] == ["embed", "one", "two", "three", "conv", "W", "R"]
    chosen = list(divided(data, Session(path).inputs).choosing)
    old = np.concatenate([run(path, feed)["y"] for feed in chosen], axis=1)
    for unit in given.units:
        swaps = given.swaps(unit)
        assert {swap.configuration.kind for swap in swaps} >= {"Half", "Int8"}, unit.name
        for swap in swaps:
            given.write({unit.name: swap.configuration}, tmp_path / "swap.onnx", None)
            new = np.concatenate([run(tmp_path / "swap.onnx", feed)["y"] for feed in chosen], axis=1)
            rounding = 5e-6 if swap.configuration in ROUNDED else 1e-9
            assert swap.loss == pytest.approx(cosine_loss(old, new), rel=0.02, abs=rounding), (unit.name, swap)


def test_the_bytes_and_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    path = mixed(tmp_path / "m.onnx")
    given = subject(path, ids(40), *EXACT, *ROUNDED)
    whole = path.stat().st_size
    assert given.other_bytes + sum(unit.bytes for unit in given.units) == whole
    stored = sum(int(np.prod(each.dims)) for each in onnx.load(path).graph.initializer)
    assert given.other_numbers + sum(unit.numbers for unit in given.units) == stored
    for unit in given.units:
        for swap in given.swaps(unit):
            given.write({unit.name: swap.configuration}, tmp_path / "swap.onnx", None)
            functions = sum(each.ByteSize() for each in onnx.load(tmp_path / "swap.onnx").functions)
            grown = (tmp_path / "swap.onnx").stat().st_size - functions - whole
            assert abs(swap.bytes - unit.bytes - grown) < 400, (unit.name, swap)
    pair = next(swap for swap in given.swaps(unit_of(given, "one")) if swap.configuration.kind == "LowRank")
    assert (pair.numbers, unit_of(given, "one").numbers) == (9 * (32 + 48), 32 * 48)


def test_a_plan_has_the_loss_of_the_written_file(tmp_path: Path) -> None:
    path, data = mixed(tmp_path / "m.onnx"), ids(40)
    given = subject(path, data, *EXACT)
    for unit in given.units:
        given.swaps(unit)
    choices = {"embed": Half(), "one": LowRank(ratio=2), "three": Int3(), "conv": Half(), "R": Half()}
    given.write(choices, tmp_path / "plan.onnx", None)
    chosen = list(divided(data, Session(path).inputs).choosing)
    old, new = (np.concatenate([run(each, feed)["y"] for feed in chosen], axis=1)
                for each in (path, tmp_path / "plan.onnx"))  # fmt: skip
    assert given.loss(choices) == pytest.approx(cosine_loss(old, new), rel=1e-3)
    assert given.loss({}) == 0


def test_the_fits_are_those_of_replace_file(tmp_path: Path) -> None:
    """With the same calibration data: replace_file() fits on the first four fifths, the subject on a part of all."""
    path = mixed(tmp_path / "m.onnx")
    given = subject(path, ids(40), Int4())
    moments_free = {"embed": Int4()}
    given.swaps(unit_of(given, "embed"))
    given.write(moments_free, tmp_path / "a.onnx", None)
    replace_file(path, plan_of({"embed": Int4()}), tmp_path / "b.onnx")
    codes = [[each.raw_data for each in onnx.load(tmp_path / name).graph.initializer if "codes" in each.name]
             for name in ("a.onnx", "b.onnx")]  # fmt: skip
    assert codes[0] == codes[1]


def test_weights_in_branches_and_shared_weights(tmp_path: Path) -> None:
    path = two_branches(tmp_path / "branches.onnx", drawn(48, 64))
    feeds = [{"x": drawn(3, 48), "c": np.array(at % 2 == 0)} for at in range(20)]
    given = subject(path, feeds, LowRank(ratio=4), Half())
    for unit in given.units:
        (loss, _) = [swap.loss for swap in given.swaps(unit)]
        given.write({unit.name: LowRank(ratio=4)}, tmp_path / "swap.onnx", None)
        chosen = list(divided(feeds, Session(path).inputs).choosing)
        old, new = (
            np.concatenate([run(each, feed)["y"] for feed in chosen]) for each in (path, tmp_path / "swap.onnx")
        )
        assert loss == pytest.approx(cosine_loss(old, new), rel=1e-3) and loss > 0.01
    path = tied(tmp_path / "tied.onnx", drawn(64, 32))
    given = subject(path, {"ids": np.arange(40).reshape(20, 2)}, Half(), Int8(), Int4())
    assert [(unit.name, unit.configurations) for unit in given.units] == [("embed", (Half(), Int8()))]


def test_models_of_16_bits_and_padding(tmp_path: Path) -> None:
    nodes = [
        node("Cast", ["x"], ["h"], to=10),
        node("MatMul", ["h", "w"], ["p"], name="dense"),
        node("Cast", ["p"], ["y"], to=1),
        node("Identity", ["attention_mask"], ["m"]),
    ]
    ports = {"x": (FLOAT, ["batch", 5, 48]), "attention_mask": (BOOL, ["batch", 5])}
    outputs = {"y": free(3), "m": free(2, BOOL)}
    path = write(tmp_path / "m.onnx", nodes, ports, outputs, {"w": drawn(48, 64, dtype=np.float16)})
    mask = np.arange(5)[None] < np.random.default_rng(0).integers(1, 6, 40)[:, None]
    x = drawn(40, 5, 48)
    x[~mask] *= 100  # their moments would change the fit, and their outputs the loss
    given = subject(path, {"x": x, "attention_mask": mask}, LowRank(ratio=2))
    (swap,) = given.swaps(given.units[0])
    chosen = list(divided({"x": x, "attention_mask": mask}, Session(path).inputs).choosing)
    given.write({"dense": LowRank(ratio=2)}, tmp_path / "swap.onnx", None)
    kept = [np.concatenate([run(each, feed)["y"][feed["attention_mask"]] for feed in chosen])
            for each in (path, tmp_path / "swap.onnx")]  # fmt: skip
    assert swap.loss == pytest.approx(cosine_loss(*kept), rel=1e-2)


def test_fits_are_packed_without_pickle_and_sent_to_another_process(tmp_path: Path) -> None:
    path = mixed(tmp_path / "m.onnx")
    settings = Half(), Int8(group=32), LowRank(ratio=2, storage="int8")
    first = subject(path, ids(40), *settings)
    other: FileSubject = pickle.loads(pickle.dumps(first.part(first.units[:2])))
    for unit in first.units[:2]:
        assert other.swaps(unit) == first.swaps(unit)
        second = subject(path, ids(40), *settings)
        second.unpack(unit, other.pack(unit))
        for swap in first.swaps(unit):
            assert second.loss({unit.name: swap.configuration}) == swap.loss
    with pytest.raises(UsageError, match="the kept fits are damaged"):
        first.unpack(first.units[0], other.pack(first.units[0])[:-200])
    assert subject(path, ids(40), *settings).fingerprint == first.fingerprint
    changed = ids(40)
    changed["ids"][0, 0] += 1
    assert subject(path, changed, *settings).fingerprint != first.fingerprint
    assert subject(path, ids(40), Half()).fingerprint != first.fingerprint


def test_a_model_without_weights_gives_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], {"x": (FLOAT, [1, 4])}, {"y": free(2)}, {})
    with pytest.raises(UsageError, match=r"no weight of .* can be replaced. Weights below 1024 numbers stay"):
        subject(path, {"x": drawn(20, 4)}, Half())


def test_an_old_opset_is_kept_if_no_candidate_needs_functions(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("BatchNormalization", ["h", *"vvvv"], ["y"], spatial=0)]
    weights = {"w": drawn(64, 64), "v": np.ones(64, np.float32)}
    ports = {"x": (FLOAT, [1, 64])}, {"y": free(2)}
    path = write(tmp_path / "m.onnx", nodes, *ports, weights, opsets={"": 8})  # which onnx cannot convert
    given = subject(path, {"x": drawn(20, 64)}, Half(), Int4(), LowRank())
    assert given.units[0].configurations == (Half(), LowRank())
    given.swaps(given.units[0])
    given.write({given.units[0].name: LowRank()}, tmp_path / "small.onnx", None)
    assert [each.version for each in onnx.load(tmp_path / "small.onnx").opset_import] == [8]
