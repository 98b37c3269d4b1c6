"""Every question and answer as JSON and back; what is missing, unknown or of another type is refused; errors too."""

import ast
import dataclasses
import inspect
import json
import typing
from pathlib import Path
from typing import Any

import pytest

from edgefc.errors import EdgefcError, MissingPackage, ModelError, ShapeError, UnknownOperator, UsageError
from edgefc.runtime.inputs import Wanted
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes import child, contracts, heat, plain
from edgefc.runtime.probes.contracts import (
    ArrayInfo,
    Block,
    Executed,
    FactsAnswer,
    FactsQuestion,
    Heap,
    HeapStage,
    LoadAnswer,
    LoadQuestion,
    Memory,
    MemoryAnswer,
    MemoryQuestion,
    ModelOutputs,
    ModelToRun,
    NodeInput,
    NodeOutput,
    Output,
    Plan,
    Question,
    RunAnswer,
    RunQuestion,
    Stage,
    SteadyAnswer,
    SteadyQuestion,
    Timed,
    Trial,
    TrialAnswer,
    TrialQuestion,
    WarmUp,
    WorkAnswer,
    WorkQuestion,
)
from edgefc.runtime.probes.plain import Failure, Unfit, encode, read
from tests.support import onnx_models

MODEL = ModelToRun("a \n\udc80 path.onnx", SessionOptions("memory", "off", 2, "float32"))
WANTED = Wanted(3, None, {"x": (None, 4)}, {"x": (0, 2**60 + 1), "y": (-0.5, 1.5)})
STAGE, HELD = Stage(1, 2), HeapStage(1, None)
BLOCK = Block(samples_ns=(5, 0, 7), runs=4, wall_ns=20, cpu_ns=None)
EXAMPLES: list[tuple[Question[Any], Any]] = [
    (TrialQuestion((MODEL,), WANTED, (None, 3)), TrialAnswer(((Trial(3, (ArrayInfo("x", "float32", (3, 4)),)),), ()))),
    (LoadQuestion(MODEL, WANTED), LoadAnswer(load_ns=1, first_ns=2, start_ns=None, used_native="avx2")),
    (MemoryQuestion(MODEL, WANTED), MemoryAnswer(Memory(STAGE, STAGE, STAGE, 9, True, 0), None)),
    (MemoryQuestion(MODEL, Wanted(path="in.npz")), MemoryAnswer(None, "no peak", Heap(HELD, HELD, HELD))),
    (SteadyQuestion((MODEL, MODEL), WANTED, Plan(9, 4, 50)),
     SteadyAnswer((Timed(WarmUp(3, True, 6.5), (BLOCK, BLOCK), 2),), 40, 100, 0.25)),
    (RunQuestion((MODEL,), WANTED), RunAnswer((ModelOutputs((Output("y", "bool", (1,), "AQ=="),), None),))),
    (WorkQuestion("m.onnx", WANTED, "/folder"), WorkAnswer(3, (
        Executed("n", "MatMul", (NodeInput("w", "w", True, "float", (4, 2)),), (NodeOutput("y", "float", (3, 2)),)),
    ))),
    (FactsQuestion(), FactsAnswer(
        machine="aarch64", board=None, virtual=None, emulated=False, cpu=None, features=("neon",), cores=4,
        usable_cores=4, governor=None, frequency_hz=None, max_frequency_hz=None, memory_bytes=1, load_1min=0.5, os="L",
        python="3.9", implementation="cpython", onnxruntime="1", numpy="1", edgefc="1", missing={"board": "why"},
    )),
]  # fmt: skip
VALUES = [value for pair in EXAMPLES for value in pair]


def names(value: Any) -> str:
    return type(value).__name__


@pytest.mark.parametrize("value", VALUES, ids=names)
def test_it_comes_back_as_it_was(value: Any) -> None:
    found = read(type(value), json.loads(encode(value)))

    assert found == value and hash_of(found) == hash_of(value)


def hash_of(value: Any) -> str:
    """Types too: 1 == 1.0 == True."""
    return repr(value).replace("[", "(").replace("]", ")")


def test_every_probe_has_a_question_and_an_answer_here() -> None:
    """And each of them is among the examples, and is that of its module."""
    kinds = {kind for kind in vars(contracts).values() if inspect.isclass(kind) and issubclass(kind, Question)}
    assert kinds - {Question} == {type(question) for question, _ in EXAMPLES}
    for question, answer in EXAMPLES:
        module = __import__(f"edgefc.runtime.probes.{question.probe}", fromlist=["answer"])
        hints = typing.get_type_hints(module.answer)
        assert module.question is type(question)
        assert [*hints.values()] == [type(question), type(answer)] and question.answer is type(answer)


def places(value: Any) -> list[tuple[Any, ...]]:
    """Of all objects of dataclasses in nested JSON: those that have fields, and no free names."""
    free = {"shapes", "ranges", "missing"}
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [(key, *place) for key, each in inner if key not in free for place in places(each)]
    return [(), *below] if isinstance(value, dict) else below


@pytest.mark.parametrize("value", VALUES, ids=names)
def test_fields_that_are_missing_or_unknown_are_refused(value: Any) -> None:
    """At every depth."""
    for place in places(json.loads(encode(value))):
        for change, message in ((lambda at: at.update(more=1), "the field is unknown"), (drop, "is missing")):
            changed = json.loads(encode(value))
            at = changed
            for step in place:
                at = at[step]
            if change is drop and not at:
                continue
            change(at)
            with pytest.raises(Unfit, match=message):
                read(type(value), changed)


def drop(at: dict[str, Any]) -> None:
    del at[next(iter(at))]


LOAD = {"load_ns": 1, "first_ns": 2, "start_ns": None, "used_native": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"load_ns": True}, "load_ns: true is not an integer"),
        ({"load_ns": 1.0}, "load_ns: 1.0 is not an integer"),
        ({"load_ns": -1}, "load_ns: -1 is below 0"),
        ({"load_ns": 1 << 60}, "load_ns: 1152921504606846976 is above 9.0072e+15"),
        ({"load_ns": None}, "load_ns: null is not an integer"),
        ({"load_ns": [1]}, "load_ns: a list is not an integer"),
        ({"used_native": 3}, "used_native: 3 is not a string"),
        ({"\x1b[2J": 3}, '"\\u001b[2J": the field is unknown'),
    ],
    ids=str,
)
def test_values_of_another_type_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Unfit) as caught:
        read(LoadAnswer, {**LOAD, **change})

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (SteadyAnswer, {"timed": [], "timer_step_ns": 1, "wall_ns": 1, "other_cores": float("nan")}, "not a finite"),
        (Block, {"samples_ns": [], "runs": 1, "wall_ns": 1, "cpu_ns": None}, "samples_ns: it is empty"),
        (Block, {"samples_ns": "12", "runs": 1, "wall_ns": 1, "cpu_ns": None}, "samples_ns: .12. is not a list"),
        (Block, {"samples_ns": [1, None], "runs": 1, "wall_ns": 1, "cpu_ns": None}, r"samples_ns\.1: null is not"),
        (Wanted, {"batch": None, "path": None, "shapes": {"x": [1.5]}, "ranges": None}, r'shapes\."x"\.0: 1.5 is not'),
        (heat.Heat, [], "a list is not an object"),
    ],
    ids=str,
)
def test_values_that_are_refused(kind: type[Any], value: Any, message: str) -> None:
    with pytest.raises(Unfit, match=message):
        read(kind, value)


def test_options_that_there_are_not_are_refused_with_their_own_sentence() -> None:
    with pytest.raises(UsageError, match="there is no preset 'fast'"):
        read(SessionOptions, {**vars(SessionOptions()), "preset": "fast"})


@pytest.mark.parametrize("module", [plain, contracts, heat], ids=lambda module: module.__name__)
def test_annotations_are_those_that_python_3_9_evaluates(module: Any) -> None:
    """Those of dataclasses are: `int | None` would fail there, and nowhere here."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    fields = [n for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for n in c.body if isinstance(n, ast.AnnAssign)]
    unions = [ast.unparse(n) for n in fields if any(isinstance(part, ast.BitOr) for part in ast.walk(n.annotation))]
    assert fields and not unions


def test_the_agents_annotations_too() -> None:
    from edgefc.devices.agent import answers

    test_annotations_are_those_that_python_3_9_evaluates(answers)
    fields = [field for field in dataclasses.fields(Wanted) if "|" in str(field.type)]
    assert not fields


# Errors


@pytest.mark.parametrize("kind", [UsageError, ShapeError, ModelError, UnknownOperator, MissingPackage])
def test_an_error_comes_back_as_it_was(kind: type[EdgefcError]) -> None:
    error = kind("what happened. What would work.", subject="numpy")

    found = read(Failure, json.loads(encode(Failure.of(error)))).error()

    assert (type(found), str(found), found.subject) == (kind, str(error), "numpy")


def test_a_code_that_nobody_has_is_refused() -> None:
    with pytest.raises(Unfit, match="unknown code"):
        read(Failure, {"code": "SystemExit", "text": "", "subject": None}).error()


def test_the_class_of_an_error_survives_a_child(tmp_path: Path) -> None:
    path = onnx_models.unknown_operator(tmp_path / "m.onnx")
    question = TrialQuestion((ModelToRun(str(path), SessionOptions()),), Wanted(), (1,))

    with pytest.raises(UnknownOperator, match=r"nor the file defines mine:Nope") as caught:
        child.ask(question, about="m.onnx")

    assert caught.value.code == "unknown-operator"


def test_a_package_that_is_missing_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is a field, so that no message must be parsed."""
    program = (
        "import sys\nsys.modules['onnxruntime'] = None\n"
        "from edgefc.runtime.probes import start\nstart.main(*sys.argv[1:])\n"
    )
    monkeypatch.setattr(child, "_PROGRAM", ("-c", program))

    with pytest.raises(MissingPackage) as caught:
        child.ask(FactsQuestion(), about="its onnxruntime")

    assert caught.value.subject == "onnxruntime"


@pytest.mark.parametrize("reply", ['{"answer": {"cores": 1}}', '{"answer": []}'])
def test_an_answer_of_another_form_is_one_sentence(monkeypatch: pytest.MonkeyPatch, reply: str) -> None:
    monkeypatch.setattr(child, "_PROGRAM", ("-c", f"print({reply!r})"))

    with pytest.raises(ModelError, match=r"^m gave an invalid answer \(.*\)\. This is a fault of edgefc"):
        child.ask(FactsQuestion(), about="m")
