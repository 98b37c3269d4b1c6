"""edgefc bench from end to end on real models, tiny ones. No test here asserts a timing."""

import json
import logging
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

import edgefc
from edgefc.bench import check, limits, make, measure, models, picture, plan, table
from edgefc.bench.check import Check
from edgefc.bench.make import Made
from edgefc.bench.measure import bench
from edgefc.bench.record import BenchRecord
from edgefc.catalogue import Entry
from edgefc.cli import main
from edgefc.errors import CheckFailed, ShapeError, UsageError
from edgefc.runtime import Session, native
from edgefc.runtime.profiling import profiler
from tests.support import onnx_models
from tests.support.json_schema import assert_valid

LAYERS = ["int8", "low rank", "prp rademacher"]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_buffer_bytes", lambda: 8 << 20)


@pytest.fixture(scope="module")
def record() -> BenchRecord:
    """One run, 24 inputs and 32 outputs, batch 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "_buffer_bytes", lambda: 8 << 20)
        patch.setattr(measure, "PROCESSES", 1)
        patch.setattr(profiler, "NULL_LAUNCHES", 1)
        return bench([24], [2], m=[32], layers=LAYERS, time_s=0.02, progress=False)


@pytest.mark.skipif(native.library_path() is None, reason="NOT TESTED: there are no native kernels")
def test_an_operator_without_a_kernel_is_told_by_name(tmp_path: Path) -> None:
    """By the class of the error. Any other reason is told as it is."""
    node = onnx.helper.make_node("NopeLinear", ["x"], ["y"], domain="edgefc")
    ports = {"x": (onnx_models.FLOAT, ["n", 3])}, {"y": (onnx_models.FLOAT, ["n", 3])}
    path = onnx_models.write(tmp_path / "m.onnx", [node], *ports, {}, opsets={"": 20, "edgefc": 1})

    assert models.missing_kernel(path) == "the native library has no kernel for NopeLinear"
    newer = onnx_models.write(tmp_path / "newer.onnx", [], *ports, {}, ir_version=999)
    assert "its IR version is 999" in (models.missing_kernel(newer) or "")


@pytest.mark.slow
def test_all_stand_in_one_run_beside_dense(record: BenchRecord) -> None:
    has = native.library_path() is not None
    found = [(row.layer, row.kernel) for row in record.rows]

    assert found == [
        ("dense fp32", "onnxruntime"), ("int8 dynamic", "onnxruntime"), ("int8 MatMulNBits", "onnxruntime"),
        ("low rank", "onnxruntime"),
        ("PRPLinear rademacher", "portable"),
        *[("PRPLinear rademacher", kernel) for kernel in ("native", "native, int8 input") if has],
    ]  # fmt: skip
    assert {(row.n, row.m, row.batch, row.profile) for row in record.rows} == {(24, 32, 2, 0)}
    assert [row.is_dense for row in record.rows] == [True] + [False] * (len(found) - 1)
    assert record.unfinished is None and len(record.profiles) == 1


@pytest.mark.slow
def test_every_model_has_its_own_kernels(record: BenchRecord) -> None:
    """Portable rows ran without the library, native ones with it, in one and the same run."""
    (profile,) = record.profiles

    for row in record.rows:
        assert (profile.cells[row.model].native_variant is not None) == row.kernel.startswith("native"), row
        activations = profile.config.model_settings[row.model].get("activation_dtype")
        assert activations == ("int8" if row.kernel == "native, int8 input" else None)
        assert row.median_ns == profile.cells[row.model].steady.median_ns


@pytest.mark.slow
def test_the_speed_is_that_of_the_same_rounds(record: BenchRecord) -> None:
    speeds = {speed.model: speed for speed in record.profiles[0].speeds}

    for row in record.rows:
        if row.is_dense:
            assert (row.speed, row.speed_low, row.speed_high) == (1, None, None)
            continue
        speed = speeds[row.model]
        assert (row.speed, row.speed_low, row.speed_high) == (speed.median, speed.low, speed.high)
        if row.speed_low is not None and row.speed_high is not None:  # None: too few rounds, on a loaded machine
            assert row.speed_low <= row.speed <= row.speed_high


@pytest.mark.slow
def test_bytes_and_operations_by_hand(record: BenchRecord) -> None:
    """24 inputs, 32 outputs, 2 rows in float32; PRP stores two scales and the bias."""
    rows = {(row.layer, row.kernel): row for row in record.rows}
    dense, prp = rows["dense fp32", "onnxruntime"], rows["PRPLinear rademacher", "portable"]
    moved = 4 * 2 * (24 + 32)

    assert (dense.weight_bytes, dense.bytes_per_run) == (4 * (24 * 32 + 32), 4 * (24 * 32 + 32) + moved)
    assert dense.operations_per_run == 2 * 2 * 24 * 32
    assert (prp.weight_bytes, prp.bytes_per_run) == (4 * (24 + 2 * 32), 4 * (24 + 2 * 32) + moved)
    assert prp.operations_per_run == 2 * 2 * (24 * 32 + 24 + 32)
    assert math.isclose(dense.bytes_per_s, dense.bytes_per_run / (dense.median_ns * 1e-9))
    assert rows["int8 dynamic", "onnxruntime"].weight_bytes < dense.weight_bytes / 3
    held = [held for row in record.rows for held in (row.loaded_bytes, row.resident_bytes) if held is not None]
    assert all(abs(each) < 64 << 20 for each in held)


@pytest.mark.slow
def test_low_rank_says_whose_size_it_has(record: BenchRecord) -> None:
    (row,) = [row for row in record.rows if row.layer == "low rank"]
    rank = (24 + 2 * 32) // (24 + 32)

    assert row.note == f"rank {rank}, as many numbers as PRPLinear rademacher"
    assert row.operations_per_run == 2 * 2 * rank * (24 + 32)


@pytest.mark.slow
def test_a_record_comes_back_from_its_file(record: BenchRecord, tmp_path: Path) -> None:
    record.write(tmp_path / "b.json")

    assert BenchRecord.read(tmp_path / "b.json") == record
    old = json.loads((tmp_path / "b.json").read_text())
    for row in old["rows"]:
        row["doubts"] = row.pop("warnings")
    (tmp_path / "old.json").write_text(json.dumps({**old, "schema_version": 2}))
    assert BenchRecord.read(tmp_path / "old.json") == record


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file or directory. Check the path."),
        ("{}", "schema_version: Field required. Name a record of edgefc bench."),
        ("nothing", "Invalid JSON"),
    ],
)
def test_files_that_are_no_record(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "b.json").write_text(text)

    with pytest.raises(UsageError, match=r"^cannot read ") as caught:
        BenchRecord.read(tmp_path / "b.json")
    assert said in str(caught.value)


@pytest.mark.slow
def test_the_table_tells_best_losers_and_what_is_missing(
    record: BenchRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {row.layer: row for row in record.rows}
    slow = rows["int8 dynamic"].model_copy(
        update={"speed": 0.5, "speed_low": 0.4, "speed_high": 0.6, "median_ns": 1e9, "nmse": 1.23e-4}
    )
    fast = rows["low rank"].model_copy(update={"speed": 12.34, "speed_low": 12.0, "speed_high": 13.0, "median_ns": 1.0})
    table.show(record.model_copy(update={"rows": (record.rows[0], slow, fast), "unfinished": "stopped"}))

    out = capsys.readouterr().out
    line = {name: next(x for x in out.splitlines() if x.startswith(name)) for name in ("int8", "low rank")}
    assert "slower than dense" in line["int8"] and "0.50x [0.4, 0.6]" in line["int8"]
    assert "1.00 s  1e-04" in line["int8"]
    assert "fastest" in line["low rank"] and "12.3x [12, 13]" in line["low rank"]
    assert "24 inputs, 32 outputs, batch 2, compared with dense fp32, 1 thread" in out
    assert "unfinished: stopped" in out and "GFLOP/s" in out and "onnxruntime" in out
    last = out.strip().splitlines()[-1]
    assert last.startswith("24 to 32, batch 2: low rank (onnxruntime) is the fastest, 12.3x over dense fp32")


@pytest.mark.slow
def test_where_dense_wins_the_table_says_so(record: BenchRecord) -> None:
    rows = [row.model_copy(update={"median_ns": 1e6 if not row.is_dense else 1e3, "speed": 0.1, "speed_low": 0.05,
                                   "speed_high": 0.2}) for row in record.rows]  # fmt: skip

    assert table.winner(rows).startswith("24 to 32, batch 2: nothing is faster than dense fp32, 1.00 us; the fastest ")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), [("map.svg", b"<?xml"), ("map.PNG", b"\x89PNG")])
def test_the_map_is_written(record: BenchRecord, tmp_path: Path, name: str, head: bytes) -> None:
    pytest.importorskip("matplotlib")
    picture.draw(record, tmp_path / name)

    assert (tmp_path / name).read_bytes().startswith(head)


# ---- the competitors and their errors


@pytest.mark.slow
def test_every_row_has_its_error(record: BenchRecord) -> None:
    """Above 0, since float32 rounds, and within the bound of its kind."""
    for row in record.rows:
        least, most = (1e-6, check.INT8) if "int8" in row.layer + row.kernel else (1e-17, 1e-12)
        assert least < row.nmse < most, row


def stored(path: Path) -> dict[str, np.ndarray]:
    return {w.name: onnx.numpy_helper.to_array(w).astype(np.float64) for w in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(
    ("name", "op", "least", "most"),
    [
        (plan.INT8, "MatMulInteger", 1e-5, 3e-4),
        (plan.INT8_BLOCKS, "MatMulNBits", 1e-5, 1e-4),
        (plan.INT4, "MatMulNBits", 1e-3, 1e-2),
    ],
)
def test_quantised_competitors_compute_the_dense_layer(
    tmp_path: Path, name: str, op: str, least: float, most: float
) -> None:
    made = Made(plan.Case(256, 40, (name,), ()), tmp_path, Check(256, (1, 3), 1))
    x = np.random.default_rng(1).standard_normal((3, 256), np.float32)
    dense, quantised = (Path(competitor.model.path) for competitor in made.competitors)
    numbers = stored(dense)
    expected = x @ numbers["w0"] + numbers["b"]

    y = Session(quantised, native="off").run({"x": x})["y"]

    error = np.square(y - expected).sum() / np.square(expected).sum()
    assert least < error < most
    assert op in {node.op_type for node in onnx.load(quantised).graph.node}
    errors = made.competitors[1].errors
    assert len(errors) == 2 and all(error / 3 < each < error * 3 for each in errors)


def test_quantisers_leave_the_root_logger_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import of onnxruntime's would print the INFO records of every library from then on."""
    monkeypatch.delitem(sys.modules, "onnxruntime.quantization.matmul_nbits_quantizer", raising=False)
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest has its own there
    models.dense(128, 8, tmp_path / "dense.onnx")

    models.quantise_blocks(tmp_path / "dense.onnx", tmp_path / "int8.onnx", bits=8)

    assert logging.root.handlers == [] and logging.root.level == logging.WARNING


def test_low_rank_is_compared_with_its_own_factors(tmp_path: Path) -> None:
    made = Made(plan.Case(64, 40, (plan.LOW_RANK,), ()), tmp_path)
    low, x = stored(tmp_path / "low-rank.onnx"), np.ones((1, 64), np.float32)

    y = Session(tmp_path / "low-rank.onnx", native="off").run({"x": x})["y"]

    np.testing.assert_allclose(y, x @ low["w0"] @ low["w1"] + low["b"], rtol=1e-4, atol=1e-5)
    assert made.competitors[1].layer == plan.LOW_RANK and 0 < made.competitors[1].errors[0] < 1e-12


def another_layer(source: Path, path: Path) -> None:
    """A dense layer of the same shape with other weights."""
    numbers = stored(source)
    models.dense(*numbers["w0"].shape, path)


def test_a_competitor_with_a_wrong_output_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(make._QUANTISED, plan.INT8, (another_layer, check.INT8))

    made = Made(plan.Case(32, 32, (plan.INT8, plan.INT4), ()), tmp_path)

    assert [competitor.layer for competitor in made.competitors] == [plan.DENSE, plan.INT4]
    (left,) = made.left_out
    assert (left.layer, left.kernel) == (plan.INT8, "onnxruntime")
    assert re.fullmatch(
        r"its output is wrong on this machine: the normalised mean squared error against float64 at batch 1 is "
        r"\d\.\de[+-]00, above the bound of 1e-03, so it was not timed\.",
        left.reason,
    )


def test_a_structured_layer_with_a_wrong_output_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has another seed than the layer; the layers beside it stay."""
    write = models.write_layer
    other = edgefc.PRPLinear(16, 16, distribution="rademacher", seed=99)
    monkeypatch.setattr(models, "write_layer", lambda entry, layer, n, path: write(entry, other, n, path))

    made = Made(plan.Case(16, 16, (plan.INT4,), tuple(plan.chosen(["prp rademacher"])[1])), tmp_path)

    assert [competitor.layer for competitor in made.competitors] == [plan.DENSE, plan.INT4]
    kernels = {left.kernel for left in made.left_out if "its output is wrong" in left.reason}
    assert kernels == {"portable", "native", "native, int8 input"} if native.library_path() else {"portable"}


def test_without_a_dense_layer_that_is_right_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "nmse", lambda *_: math.nan)

    with pytest.raises(CheckFailed, match=r"nothing was measured: its output is wrong .* is nan, above the bound of"):
        bench([8], [1], layers=["int8"], progress=False)


@pytest.mark.parametrize("entry", plan._of_rows(), ids=plan.name_of)
def test_references_of_layers_are_their_forward_in_float64(entry: Entry) -> None:
    """dense() where there is one is another path than forward()."""
    layer, checked = entry.make(16), Check(16, (1, 3), 1)
    with torch.no_grad():
        expected = layer.double()(torch.from_numpy(checked.x).double()).numpy()

    np.testing.assert_allclose(checked.layer(layer.float()), expected, rtol=1e-9, atol=1e-12)


def test_a_layer_that_cannot_have_a_size_is_left_out_with_its_sentence(tmp_path: Path) -> None:
    """And the others stand."""

    def refuses(n: int, m: int) -> None:
        raise ShapeError(f"cannot have {n}.")

    entries = [replace(entry, linear=refuses) for entry in plan.chosen(["prp rademacher"])[1]]
    made = Made(plan.Case(7, 5, (plan.LOW_RANK,), tuple(entries)), tmp_path)

    assert [(each.layer, each.kernel, each.reason) for each in made.left_out] == [
        ("PRPLinear rademacher", None, "cannot have 7.")
    ]
    assert [competitor.layer for competitor in made.competitors] == ["dense fp32", "low rank"]


def test_a_kernel_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "library_path", lambda: None)
    made = Made(plan.Case(8, 8, (), tuple(plan.chosen(["prp rademacher"])[1])), tmp_path)

    assert [(each.kernel, each.reason) for each in made.left_out] == [
        ("native", "this edgefc was installed without native kernels")
    ]


def test_a_block_stands_beside_what_it_replaces(tmp_path: Path) -> None:
    _, (tied,) = plan.chosen(["TiedFFN"])
    (case,) = plan.cases([(8, 8)], (), (tied,), named=True)
    made = Made(case, tmp_path)

    assert [competitor.layer for competitor in made.competitors[:2]] == ["dense fp32 (for TiedFFN)", "TiedFFN"]
    assert made.competitors[0].multiply_adds == made.competitors[1].multiply_adds == 2 * 8 * 32
    assert made.competitors[0].weight_bytes > 1.8 * made.competitors[1].weight_bytes


# ---- what cannot be


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--layers circulent", "no layer matches 'circulent' (did you mean 'CirculantLinear'?). Choose "),
        (
            "--layers int8,",
            "no layer matches ''. Choose among: int8 dynamic, int8 MatMulNBits, int4 MatMulNBits, ",
        ),
        ("--n 8,16,24 --m 8,16", "n has 3 sizes and m has 2. Give one m for all, or one for each n."),
        ("--n 20000", "a dense layer of n=20000, m=20000 takes 1.6 GB, above the limit of 1.1 GB of this command"),
        ("--plot map.pdf", "cannot draw map.pdf: its name must end in .svg or .png. Give such a name."),
        ("--json a.svg --plot a.svg", "cannot write a.svg: this command uses that file already. Choose another name."),
        ("--json .", "cannot write .: it is a folder. Name a file in it."),
    ],
)
def test_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)

    code = main(["bench", *arguments.split()])

    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith("edgefc bench: ") and said in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", ["--n 0", "--n x", "--batch 1,,2", "--m -3", "--lay int8", "more"])
def test_arguments_that_do_not_parse(capsys: pytest.CaptureFixture[str], arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", *arguments.split()])

    assert caught.value.code == 2 and "error: " in capsys.readouterr().err


def test_a_disk_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/scratch")
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000_000))

    with pytest.raises(UsageError) as caught:
        bench([1024], [1])
    assert str(caught.value) == (
        "the models of n=1024, m=1024 take up to 0.025 GB and /scratch has 0.01 GB free. Give smaller sizes, or set "
        "TMPDIR to a folder on another disk."
    )


def test_a_disk_that_fills_up_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "dense", full)
    with pytest.raises(
        UsageError, match=r"^cannot write temporary files to .*: No space left on device\. Free some space there, or"
    ):
        bench([8], [1], layers=["int8"], progress=False)


def test_layers_that_memory_cannot_hold_together() -> None:
    with pytest.raises(UsageError) as caught:
        plan.check_room([(1024, 2048)], 50_000_000)
    assert str(caught.value) == (
        "the layers of n=1024, m=2048 take up to 0.067 GB of memory together, and this machine has 0.05 GB. "
        "Give smaller sizes."
    )


def test_numbers_of_a_layer_are_drawn_and_finite() -> None:
    """Those of a layer that keeps whole numbers too are its own."""
    stored = models.random_layer(lambda: edgefc.PRPLinear(16, 8, distribution="orthogonal"))
    kept = models.random_layer(lambda: torch.nn.BatchNorm1d(4))

    assert all(tensor.isfinite().all() and tensor.any() for tensor in stored.state_dict().values())
    assert torch.equal(kept.running_var, torch.ones(4))


def test_when_nothing_can_be_measured_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise CheckFailed("all is lost.")

    monkeypatch.setattr(measure, "profile", fails)
    with pytest.raises(CheckFailed, match=r"nothing was measured: all is lost\."):
        bench([8], [1], layers=["low rank"], progress=False)


@pytest.mark.slow
def test_an_interrupt_keeps_what_was_finished(
    record: BenchRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second batch is stopped: the first is in the file and in the table."""
    calls = []

    def second_is_stopped(*args: object, **options: object) -> object:
        calls.append(options)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return record.profiles[0].model_copy(
            update={"cells": record.profiles[0].cells[:3], "speeds": record.profiles[0].speeds[:2]}
        )

    monkeypatch.setattr(measure, "profile", second_is_stopped)
    path = tmp_path / "b.json"

    code = main(["bench", "--n", "24", "--batch", "2,3", "--layers", "int8", "--json", str(path)])

    out, err = capsys.readouterr()
    assert code == 130 and f"3 rows were finished; they are in {path}" in err and "int8 dynamic" in out
    assert_valid(path, "bench")
    kept = BenchRecord.read(path)
    assert len(kept.rows) == 3 and kept.unfinished == "the benchmark was still running"
    assert [call["memory"] for call in calls] == [True, False]
