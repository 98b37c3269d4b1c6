"""replace_file(): the whole of it, what it refuses, and what it leaves on the disk."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgefc.cli import main
from edgefc.errors import CheckFailed, ModelError, UsageError
from edgefc.plan import Half, Int4, Int8, Keep, LowRank, Rule
from edgefc.rewriting import replace_file, replacing
from tests.support.hostile_models import doubling
from tests.support.onnx_models import FLOAT, missing_weights, write
from tests.support.rewriting_models import drawn, free, linear, node, operators, run, tied

X = {"x": np.random.default_rng(4).standard_normal((20, 5, 64)).astype(np.float32)}


def model(path: Path, opset: int = 20) -> Path:
    return linear(path, drawn(48, 64), drawn(48), opset=opset)


def test_the_report_measures_the_outputs_on_the_last_fifth(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", **X)
    report = replace_file(path, Int4(), tmp_path / "small.onnx", calibration=tmp_path / "data.npz")
    held = {"x": X["x"][16:]}
    old, new = (run(each, held)["y"].astype(np.float64) for each in (path, tmp_path / "small.onnx"))
    (change,) = report.outputs
    assert change.nmse == pytest.approx(np.square(new - old).sum() / np.square(old).sum(), rel=1e-5)
    rows = [(a.ravel(), b.ravel()) for a, b in zip(old, new, strict=True)]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in rows]
    assert change.worst_cosine == pytest.approx(min(cosines), rel=1e-6)
    assert change.largest_difference == pytest.approx(np.abs(new - old).max(), rel=1e-5)
    assert (change.samples, report.layers[0].samples) == (4, 16 * 5)
    assert report.file_before == path.stat().st_size
    assert report.file_after == (tmp_path / "small.onnx").stat().st_size
    assert {step.name for step in report.steps} == {"reading", "observing", "fitting", "writing", "comparing"}
    json.dumps(report.record())
    assert "1 of 1 weights replaced" in report.sentence()


def test_the_result_keeps_names_metadata_and_passes_the_checker(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    source = onnx.load(path)
    source.metadata_props.append(onnx.StringStringEntryProto(key="licence", value="a test"))
    source.doc_string = "about"
    path.write_bytes(source.SerializeToString())
    replace_file(path, Int8(), tmp_path / "small.onnx")
    made = onnx.load(tmp_path / "small.onnx")
    onnx.checker.check_model(made, full_check=True)
    assert (made.producer_name, made.doc_string) == ("a test", "about")
    assert {each.key: each.value for each in made.metadata_props} == {"licence": "a test"}
    assert [port.name for port in (*made.graph.input, *made.graph.output)] == ["x", "y"]
    assert [function.name for function in made.functions] == ["QuantizedLinear"]


@pytest.mark.parametrize("opset", [11, 17])
def test_an_old_opset_is_converted_where_functions_need_it(tmp_path: Path, opset: int) -> None:
    path = model(tmp_path / "m.onnx", opset)
    report = replace_file(path, Int8(), tmp_path / "small.onnx", calibration=X)
    assert report.opset == 18 and report.outputs[0].nmse < 1e-3
    assert replace_file(path, LowRank(), tmp_path / "pair.onnx").opset == opset


def test_an_opset_that_cannot_be_converted_gives_one_sentence(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("BatchNormalization", ["h", *"vvvv"], ["y"], spatial=0)]
    weights = {"w": drawn(64, 64), "v": np.ones(64, np.float32)}
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 64])}, {"y": free(2)}, weights, opsets={"": 8})
    with pytest.raises(ModelError, match=r"has opset 8, this plan needs 18, and onnx cannot convert it: .*Half"):
        replace_file(path, Int4(), tmp_path / "small.onnx")
    assert sorted(os.listdir(tmp_path)) == ["m.onnx"]


def test_the_initializers_of_old_files_are_inputs(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    inputs = {"x": (FLOAT, [3, 64]), "w": (FLOAT, [64, 48])}
    path = write(tmp_path / "m.onnx", nodes, inputs, {"y": free(2)}, {"w": drawn(64, 48)}, ir_version=3, opsets={"": 8})
    report = replace_file(path, Half(), tmp_path / "small.onnx", calibration={"x": drawn(6, 64)})
    assert report.layers[0].replaced and report.outputs[0].nmse < 1e-5


def test_weights_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = onnx.load(model(tmp_path / "m.onnx"))
    onnx.save(source, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    total = sum((tmp_path / name).stat().st_size for name in ("m.onnx", "m.data"))
    monkeypatch.setattr(replacing, "EXTERNAL_FROM_BYTES", 1)
    (tmp_path / "out").mkdir()
    report = replace_file(tmp_path / "m.onnx", Int8(), tmp_path / "out" / "small.onnx", calibration=X)
    assert report.file_before == total
    names = sorted(os.listdir(tmp_path / "out"))
    assert len(names) == 2 and names[0].startswith("small-") and names[1] == "small.onnx"
    assert report.file_after == sum((tmp_path / "out" / name).stat().st_size for name in names)
    before, after = run(tmp_path / "m.onnx", X)["y"], run(tmp_path / "out" / "small.onnx", X)["y"]
    assert np.linalg.norm(after - before) < 2e-2 * np.linalg.norm(before)


def test_what_stays_is_in_the_report_with_the_reason(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["image", "k"], ["c"], name="conv"),
        node("MatMul", ["x", "w"], ["y"], name="dense"),
        node("ReduceSum", ["v"], ["s"], name="norm"),
        node("MatMul", ["x", "v"], ["z"], name="other"),
    ]
    inputs = {"image": (FLOAT, [1, 2, 9]), "x": (FLOAT, [3, 64])}
    outputs = {"c": free(3), "y": free(2), "s": free(2), "z": free(2)}
    weights = {"k": drawn(4, 2, 3), "w": drawn(64, 48), "v": drawn(64, 48)}
    path = write(tmp_path / "m.onnx", nodes, inputs, outputs, weights)
    report = replace_file(path, Int4(), tmp_path / "small.onnx")
    assert {layer.name: layer.reason for layer in report.layers} == {
        "conv": "its weight is not a matrix that multiplies from the right (Conv). Give it Half or Int8",
        "dense": "",
        "other": "its weight has another use: the ReduceSum 'norm' uses it too. Give it Half or Int8",
    }
    assert report.weights_before == 64 * 48 * 4


def test_a_tied_table_needs_one_configuration(tmp_path: Path) -> None:
    path = tied(tmp_path / "m.onnx", drawn(64, 32))
    plan = [Rule("embed", to=Half()), Rule("head", to=Int8())]
    with pytest.raises(
        UsageError, match=r"'embed' stays, because it shares its weight with 'head', which the plan gives"
    ):
        replace_file(path, plan, tmp_path / "small.onnx")
    with pytest.raises(
        UsageError, match=r"because its weight is a table and a matrix of a product. Give it Half or Int8"
    ):
        replace_file(path, Int4(), tmp_path / "small.onnx")


def test_names_and_types_and_the_first_rule(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "a.weight"], ["h"], name="first"),
        node("Gemm", ["h", "b.weight"], ["y"], name="second"),
    ]
    weights = {"a.weight": drawn(64, 64), "b.weight": drawn(64, 48)}
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [3, 64])}, {"y": free(2)}, weights)

    def chosen(*rules: Rule) -> dict[str, str]:
        report = replace_file(path, list(rules), tmp_path / "small.onnx")
        return {layer.name: layer.configuration for layer in report.layers}

    assert chosen(Rule("a.weight", to=Half())) == {"first": "Half"}
    assert chosen(Rule(type="Gemm", to=Half())) == {"second": "Half"}
    assert chosen(Rule("first", to=Keep()), Rule(type="linear", to=Half())) == {"second": "Half"}
    assert chosen(Rule("*.weight", min_size=4000, to=Int8()), Rule(to=Half())) == {"first": "Int8", "second": "Half"}
    with pytest.raises(UsageError, match=r"rule 1 .*matches nothing"):
        chosen(Rule("c.weight", to=Half()), Rule(to=Half()))


def test_nothing_to_replace(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the plan keeps all of them"):
        replace_file(model(tmp_path / "m.onnx"), Keep(), tmp_path / "small.onnx")
    path = write(tmp_path / "n.onnx", [node("Relu", ["x"], ["y"])], {"x": (FLOAT, [3])}, {"y": (FLOAT, [3])}, {})
    with pytest.raises(UsageError, match="the model has no layer that edgefc can replace"):
        replace_file(path, Half(), tmp_path / "small.onnx")


def test_paths_that_cannot_be_used(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    for target, message in (("m.onnx", "uses that file already"), ("small.bin", "must end in .onnx")):
        with pytest.raises(UsageError, match=message):
            replace_file(path, Half(), tmp_path / target)
    with pytest.raises(UsageError, match=r"cannot load .*No such file"):
        replace_file(tmp_path / "none.onnx", Half(), tmp_path / "small.onnx")


def test_files_of_unknown_origin(tmp_path: Path) -> None:
    files = {
        "bytes.onnx": b"no model",
        "empty.onnx": b"",
        "doubling.onnx": doubling(40).SerializeToString(),
        "outside.onnx": missing_weights(tmp_path / "w.onnx", "../../etc/passwd").read_bytes(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"cannot load .*{name}|{name} is not a valid"):
            replace_file(tmp_path / name, Half(), tmp_path / "small.onnx")
    assert not (tmp_path / "small.onnx").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"x": np.zeros((1, 5, 64), np.float32)}, "need 2 at least"),
        ({"z": X["x"]}, r"the calibration data have z, and the inputs are x"),
        ({"x": X["x"][..., :3]}, r"'x'"),
        ({"x": X["x"][0, 0]}, "with one more axis for whole feeds"),
        ({"x": np.full((4, 5, 64), np.nan, np.float32)}, "NaN or infinite"),
        ("none.npz", "cannot read the calibration data"),
    ],
)
def test_calibration_data_that_do_not_fit(tmp_path: Path, data: Any, message: str) -> None:
    path = model(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=message):
        replace_file(path, Int4(), tmp_path / "small.onnx", calibration=data)
    assert sorted(os.listdir(tmp_path)) == ["m.onnx"]


def test_held_out_samples_without_finite_outputs(tmp_path: Path) -> None:
    data = X["x"].copy()
    data[16:] = np.nan
    with pytest.raises(UsageError, match=r"output 'y' of the given model is not finite"):
        replace_file(model(tmp_path / "m.onnx"), Int4(), tmp_path / "small.onnx", calibration={"x": data})
    assert not (tmp_path / "small.onnx").exists()


@pytest.mark.parametrize("plan", [{"a": Half()}, {"a": Int4()}])
def test_weights_in_another_file_that_stay(plan: Any, tmp_path: Path) -> None:
    """They are copied: the new file does not need the file of the old one."""
    nodes = [node("MatMul", ["x", "w"], ["h"], name="a"), node("MatMul", ["h", "v"], ["y"], name="b")]
    weights = {"w": drawn(64, 64), "v": drawn(64, 64)}
    path = write(tmp_path / "m.onnx", nodes, {"x": free(2)}, {"y": free(2)}, weights)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    x = {"x": drawn(3, 64)}
    before = run(path, x)["y"]
    replace_file(path, plan, tmp_path / "small.onnx")
    (tmp_path / "m.data").unlink()
    after = run(tmp_path / "small.onnx", x)["y"]
    assert np.linalg.norm(after - before) < 0.15 * np.linalg.norm(before)
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "small.onnx"]


def test_an_archive_with_pickles_or_one_array_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    np.savez(tmp_path / "pickle.npz", x=np.array([{}], dtype=object))
    np.save(tmp_path / "one.npy", X["x"])
    (tmp_path / "pickle").write_bytes(pickle.dumps({}))
    for name, member in (("junk.npz", "x.npy"), ("text.npz", "x.txt")):
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr(member, b"junk")
    np.savez(tmp_path / "wide.npz", x=X["x"].astype(np.longdouble))
    for name in ("pickle.npz", "one.npy", "pickle"):
        with pytest.raises(UsageError, match=r"cannot read the calibration data .*: .*numpy.savez"):
            replace_file(path, Int4(), tmp_path / "small.onnx", calibration=tmp_path / name)
    for name, message in (("junk", "which is not an array"), ("text", "which is not an array"), ("wide", "64 bits")):
        with pytest.raises(UsageError, match=message):
            replace_file(path, Int4(), tmp_path / "small.onnx", calibration=tmp_path / f"{name}.npz")


def test_whole_feeds_for_a_model_with_a_state(tmp_path: Path) -> None:
    """The first axis of the state is not the batch."""
    nodes = [node("LSTM", ["x", "w", "r", "", "", "h"], ["", "state"], hidden_size=16), node("Relu", ["x"], ["y"])]
    inputs = {"x": (FLOAT, [1, "n", 16]), "h": (FLOAT, [1, "n", 16])}
    weights = {"w": drawn(1, 64, 16), "r": drawn(1, 64, 16)}
    path = write(tmp_path / "m.onnx", nodes, inputs, {"state": free(3), "y": free(3)}, weights)
    feeds = [{"x": drawn(1, 2, 16), "h": drawn(1, 2, 16)} for _ in range(10)]
    stacked = {name: np.stack([feed[name] for feed in feeds]) for name in inputs}
    one = replace_file(path, Int8(group=16), tmp_path / "a.onnx", calibration=stacked)
    other = replace_file(path, Int8(group=16), tmp_path / "b.onnx", calibration=feeds)
    assert one.outputs == other.outputs and one.outputs[0].samples == 2


def test_an_output_that_becomes_infinite_is_refused(tmp_path: Path) -> None:
    """exp(x w) overflows where the fit is a little larger."""
    weight = np.full((48, 64), 88.7 / 64, np.float32)
    weight[:, :2] += np.linspace(-1, 1, 48)[:, None] * [[1, -1]]
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Exp", ["h"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, ["n", 64])}, {"y": free(2)}, {"w": weight.T.copy()})
    x = np.repeat(np.array([[1e-3], [1]], np.float32), [16, 4], axis=0) * np.ones((1, 64), np.float32)
    with pytest.raises(CheckFailed, match="output 'y' has NaN or infinities where it had none"):
        replace_file(path, Int8(group=64), tmp_path / "small.onnx", calibration={"x": x})
    assert sorted(os.listdir(tmp_path)) == ["m.onnx"]


def test_an_existing_file_stays_until_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = model(tmp_path / "m.onnx")
    (tmp_path / "small.onnx").write_bytes(b"old")

    def fail(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(replacing, "compare", fail)
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, Half(), tmp_path / "small.onnx", calibration=X)
    assert (tmp_path / "small.onnx").read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["m.onnx", "small.onnx"]


def test_a_file_that_edgefc_wrote_can_be_rewritten_again(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "a"], ["h"], name="first"), node("MatMul", ["h", "b"], ["y"], name="second")]
    weights = {"a": drawn(64, 64), "b": drawn(64, 48)}
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, ["n", 64])}, {"y": free(2)}, weights)
    replace_file(path, Rule("first", to=Int8()), tmp_path / "once.onnx")
    report = replace_file(tmp_path / "once.onnx", Rule("second", to=Int8()), tmp_path / "twice.onnx")
    assert [layer.name for layer in report.layers] == ["second"]
    assert operators(tmp_path / "twice.onnx") == ["QuantizedLinear"] * 2
    x = {"x": drawn(3, 64)}
    before = run(path, x)["y"]
    assert np.linalg.norm(run(tmp_path / "twice.onnx", x)["y"] - before) < 3e-2 * np.linalg.norm(before)


def test_names_of_new_nodes_do_not_meet_those_of_the_model(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    source = onnx.load(path)
    source.graph.node.append(helper.make_node("Relu", ["y"], ["w.codes"], name="w.scales"))
    source.graph.output.append(helper.make_tensor_value_info("w.codes", *free(3)))
    path.write_bytes(source.SerializeToString())
    replace_file(path, Int8(), tmp_path / "small.onnx", calibration=X)
    assert set(run(tmp_path / "small.onnx", X)) == {"y", "w.codes"}


def test_the_command_prints_every_weight_and_every_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [node("Relu", ["x"], ["h"]), node("MatMul", ["h", "w"], ["y"]), node("Conv", ["image", "k"], ["z"])]
    inputs = {"x": (FLOAT, ["n", 64]), "image": (FLOAT, ["n", 2, 9])}
    weights = {"w": drawn(64, 48), "k": drawn(4, 2, 3)}
    path = write(tmp_path / "m.onnx", nodes, inputs, {"y": free(2), "z": free(3)}, weights)
    (tmp_path / "plan.toml").write_text('[[rules]]\nto = "Int4"\n')
    np.savez(tmp_path / "data.npz", x=drawn(40, 64), image=drawn(40, 2, 9))
    small, record = tmp_path / "small.onnx", tmp_path / "report.json"
    arguments = [
        "--plan",
        tmp_path / "plan.toml",
        "--calibration",
        tmp_path / "data.npz",
        "-o",
        small,
        "--json",
        record,
    ]
    assert main(["replace", *map(str, [path, *arguments])]) == 0
    shown = capsys.readouterr().out
    assert "node_y" in shown and "stays: node_z: its weight is not a matrix" in shown
    assert "output y on 8 held-out samples" in shown and "needs onnxruntime 1.22 or later" in shown
    assert json.loads(record.read_text())["layers"][0]["configuration"] == "Int4"
    assert small.exists()


@pytest.mark.slow  # an import contract holds the same
def test_torch_is_not_needed(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnxscript'] = None\n"
        "from edgefc.plan import Int4\nfrom edgefc.rewriting import replace_file\n"
        f"print(replace_file({str(path)!r}, Int4(), {str(tmp_path / 'small.onnx')!r}).sentence())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 weights replaced" in done.stdout
