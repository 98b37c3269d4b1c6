"""Plans: from Python objects, from TOML and from JSON; what is refused, and in which words."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgefc.errors import UsageError
from edgefc.layers.prp import matrices
from edgefc.plan import (
    PRP,
    Bilinear,
    Circulant,
    Configuration,
    EUGen,
    Half,
    Int2,
    Int3,
    Int4,
    Int8,
    Keep,
    LowRank,
    Monarch,
    Plan,
    Rule,
    Tied,
    plan_of,
)  # fmt: skip
from edgefc.plan.configurations import DISTRIBUTIONS, KINDS
from edgefc.plan.rules import Candidate
from edgefc.plan.schema import plan_schema
from tests.support.json_schema import faults

EVERY = [
    Circulant(block=4), PRP(distribution="hadamard", rank=2), EUGen(features=8), Bilinear(terms=3), LowRank(rank=5),
    LowRank(ratio=4, storage="int8"), Tied(), Monarch(blocks=8), Half(), Int8(group=64), Int4(group=16, rotate=False),
    Int3(), Int2(rank=16), Keep(),
]  # fmt: skip
ENCODER = [
    Candidate("embeddings.word", ("Embedding",), 30_000),
    Candidate("encoder.0.dense", ("Linear",), 4_096),
    Candidate("encoder.1.dense", ("NonDynamicallyQuantizableLinear", "Linear"), 256),
]

TOML = """
[[rules]]
match = "embeddings.*"
to = { kind = "Int4", rotate = false }

[[rules]]
type = "Linear"
min_size = 1000
to = "LowRank"
"""
RULES = [Rule("embeddings.*", to=Int4(rotate=False)), Rule(type="Linear", min_size=1000, to=LowRank())]


def test_every_kind_is_tried_below() -> None:
    assert {type(each) for each in EVERY} == set(KINDS.values())


def test_file_in_both_formats(tmp_path: Path) -> None:
    toml, record = tmp_path / "plan.toml", tmp_path / "plan.json"
    toml.write_text(TOML)
    expected = Plan(RULES)
    record.write_text(json.dumps(expected.record()))
    assert plan_of(toml) == plan_of(str(record)) == plan_of(RULES) == plan_of(expected) == expected


def test_python_objects() -> None:
    assert plan_of(Int8()) == Plan([Rule("*", to=Int8())])
    assert plan_of({"a.*": Int8(), "*": Keep()}) == Plan([Rule("a.*", to=Int8()), Rule("*", to=Keep())])


@pytest.mark.parametrize("configuration", EVERY, ids=repr)
def test_record_is_read_back_and_fits_the_schema(configuration: Configuration, tmp_path: Path) -> None:
    plan, path = Plan([Rule("a", min_size=3, type="Linear", to=configuration)]), tmp_path / "plan.json"
    path.write_text(json.dumps(plan.record()))
    assert plan_of(path) == plan
    schema = plan_schema()
    assert not list(faults(schema, plan.record(), schema))


@pytest.mark.parametrize("wrong", [{"kind": "Int5"}, {"kind": "Int4", "gruop": 32}, {"group": 32}, "int4", None])
def test_schema_refuses(wrong: Any) -> None:
    schema = plan_schema()
    assert list(faults(schema, {"rules": [{"to": wrong}]}, schema))


def test_first_rule_decides() -> None:
    plan = Plan(
        [Rule("*.1.*", to=Half()), Rule("encoder.*", type="Linear", to=Int4()), Rule(min_size=30_000, to=Int8())]
    )
    assert plan.assign(ENCODER) == {"encoder.0.dense": Int4(), "encoder.1.dense": Half(), "embeddings.word": Int8()}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([Rule("encodr.*", to=Half())], "rule 1 (match='encodr.*') matches nothing. Similar names are encoder"),
        ([Rule(to=Keep()), Rule("encoder.*", to=Half())], "rule 2 (match='encoder.*') decides nothing: earlier rules"),
        ([Rule("enc*", type="Conv2d", to=Half())], "the pattern matches encoder.0.dense (Linear, 4,096 numbers)"),
        ([Rule("enc*", min_size=5000, to=Half())], "Correct type or min_size."),
    ],
)
def test_rule_that_decides_nothing(rules: list[Rule], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Plan(rules).assign(ENCODER)
    assert message in str(caught.value)


def test_model_without_layers() -> None:
    with pytest.raises(UsageError, match="the model has no layer that edgefc can replace"):
        plan_of(Int8()).assign([])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Int4(gruop=3), "there is no setting of Int4 'gruop'. Did you mean 'group'? Int4 takes group, rotate."),
        (lambda: Int4(33), "Int4 does not support group=33: a group is a power of two."),
        (lambda: Int4(group=512), "Int4 does not support group=512: input should be less than or equal to 256."),
        (lambda: Int4(group="32"), "Int4 does not support group='32': input should be a valid integer."),
        (lambda: Int4(rotate=1), "Int4 does not support rotate=1: input should be a valid boolean."),
        (lambda: Tied(3), "Tied got an argument too many: 3. Tied takes no settings."),
        (lambda: LowRank(rank=2, ratio=2), "LowRank: rank=2 and ratio=2.0 exclude each other; give one of them."),
        (
            lambda: LowRank(ratio=0.25),
            "LowRank does not support ratio=0.25: input should be greater than or equal to 1.",
        ),
        (lambda: LowRank(ratio=float("nan")), "LowRank does not support ratio=nan"),
        (lambda: LowRank(storage="hlaf"), "LowRank does not support storage='hlaf': input should be 'half' or 'int8'."),
        (lambda: Circulant(block=10**5000), "Circulant does not support block=a int"),
        (lambda: PRP("gausian"), "PRP does not support distribution='gausian': choose one of rademacher, gaussian"),
        (lambda: Rule("x"), "Rule needs 'to'. Give to=..."),
        (lambda: Rule("x", to=Int4), "Rule does not support to=<class"),
        (lambda: Plan([]), "a plan has 1 to 10,000 rules, got 0."),
        (lambda: Plan(["a"]), "rule 1 is 'a'. Give a Rule, such as Rule('encoder.*', to=Int4())."),
        (lambda: plan_of({"a": "Int4"}), "the plan gives 'Int4' for 'a'. Give a configuration, such as Int4()."),
        (lambda: plan_of(None), "a plan cannot be None. Give rules such as"),
    ],
)
def test_wrong_objects(make: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.yaml", "", "its name ends neither in .toml nor in .json"),
        ("p.toml", "rules = ", "it is not valid TOML"),
        ("p.toml", f"rules = {'9' * 5000}", "it is not valid TOML"),
        ("p.json", "{", "it is not valid JSON"),
        ("p.json", "[" * 100_000, "it is nested too deeply"),
        ("p.json", '{"rules": [], "rules": []}', "an object has the same key twice"),
        ("p.json", "[]", "a plan is an object with rules, got []."),
        ("p.toml", "rulez = []", "there is no entry of a plan 'rulez'. Did you mean 'rules'?"),
        ("p.toml", "rules = 3", "rules is 3. Write one [[rules]] in TOML"),
        ("p.toml", "[[rules]]\nmatch = 'a'", "rule 1: Rule needs \"to\". Give one of: Circulant, PRP"),
        ("p.toml", "[[rules]]\nto = 'int4'", "rule 1: there is no kind of layer 'int4'. Did you mean 'Int4'?"),
        ("p.toml", "[[rules]]\nto='Keep'\n[[rules]]\nmach='a'\nto='Keep'", "rule 2: there is no setting of Rule"),
        ("p.toml", "[[rules]]\nto = { kind = 'LowRank', rnak = 3 }", "Did you mean 'rank'?"),
        ("p.json", '{"rules": [{"to": {"kind": "Int4", "self": 3}}]}', "rule 1: there is no setting of Int4 'self'"),
        ("p.json", '{"rules": [{"__dataclass_self__": 3, "to": "Int4"}]}', "there is no setting of Rule '__dataclass_"),
        ("p.json", '{"rules": [{"to": {"kind": "Keep", "": 3}}]}', "no setting of Keep ''. Keep takes no settings."),
        ("p.toml", "[[rules]]\nto = { rank = 3 }", "rule 1: \"to\" is {'rank': 3}. Write"),
        ("p.toml", "x = 0" + " " * (1 << 20), "it has more than 1048576 bytes"),
    ],
)  # fmt: skip
def test_wrong_files(name: str, content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        plan_of(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["p.toml", "p.json"])
def test_byte_order_mark(name: str, tmp_path: Path) -> None:
    content = '[[rules]]\nto = "Int8"' if name.endswith("toml") else '{"rules": [{"to": "Int8"}]}'
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert plan_of(tmp_path / name) == plan_of(Int8())


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        plan_of(tmp_path / "absent.toml")
    (tmp_path / "p.toml").mkdir()
    with pytest.raises(UsageError, match="not a regular file"):
        plan_of(tmp_path / "p.toml")


def test_rank_of_a_ratio() -> None:
    """The numbers of both matrices are at most 1/ratio of those of the dense one, and one rank more exceeds it."""
    for n, m, ratio in ((384, 1536, 4.0), (384, 384, 2.0), (100, 30, 3.0)):
        rank = LowRank(ratio=ratio).rank_for(n, m)
        assert rank * (n + m) <= n * m / ratio < (rank + 1) * (n + m)
    assert LowRank(rank=500).rank_for(30, 100) == 30
    assert LowRank(ratio=1000).rank_for(4, 4) == 1


def test_distributions_are_those_of_the_layer() -> None:
    assert DISTRIBUTIONS == matrices.DISTRIBUTIONS
