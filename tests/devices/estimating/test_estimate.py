"""edgefc estimate: what a run is counted to compute and move, the roofline over it, and what is said about it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

import edgefc
from edgefc.cli import main
from edgefc.devices import inventory
from edgefc.devices.estimating import rates
from edgefc.devices.estimating.estimate import (
    CONSTANTS,
    Calibration,
    Constants,
    Spread,
    estimate,
    memory_bytes,
    step_seconds,
    weight_speed,
)
from edgefc.devices.estimating.rates import Rates
from edgefc.devices.estimating.work import Step, Work, work_of
from edgefc.devices.profiles import profile
from edgefc.errors import DeviceError, ModelError, UsageError
from edgefc.export import export
from edgefc.runtime import graph
from edgefc.runtime.inputs import Wanted
from edgefc.runtime.probes import work as probe
from edgefc.runtime.probes.contracts import WorkQuestion
from tests.support import onnx_models
from tests.support.in_process import in_process  # noqa: F401  a fixture
from tests.support.json_schema import assert_valid
from tests.support.onnx_models import FLOAT

SIZES = [(1, 1, 1), (1, 7, 13), (5, 13, 7), (3, 384, 768), (2, 768, 384), (64, 32, 1)]


def products(work: Work) -> list[Step]:
    return [step for step in work.steps if step.kind == "product"]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("batch", "n", "m"), SIZES)
def test_a_product(tmp_path: Path, batch: int, n: int, m: int) -> None:
    work = work_of(onnx_models.matmul(tmp_path / "m.onnx", n, m), batch)

    (step,) = products(work)
    assert (step.flop, step.weight_bytes) == (2 * batch * n * m, 4 * n * m)
    assert step.activation_bytes == 4 * batch * (n + m)
    assert (work.batch, work.file_bytes) == (batch, (tmp_path / "m.onnx").stat().st_size)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("transposed", [0, 1])
def test_a_transposed_weight(tmp_path: Path, transposed: int) -> None:
    n, m = 13, 7
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=transposed)
    weights = {"w": np.ones((m, n) if transposed else (n, m), np.float32), "b": np.ones(m, np.float32)}
    ports = {"x": (FLOAT, ["batch", n])}, {"y": (FLOAT, ["batch", m])}
    work = work_of(onnx_models.write(tmp_path / "m.onnx", [node], *ports, weights), 5)

    (step,) = products(work)
    assert (step.rows, step.inner, step.columns, step.weight_bytes) == (5, n, m, 4 * (n * m + m))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("packed", [True, False])
def test_a_transposed_input(tmp_path: Path, packed: bool) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)
    ports, weights = {"x": (FLOAT, [11, 5])}, {}
    if packed:
        weights = {"w": np.ones((11, 3), np.float32)}
    else:
        ports["w"] = (FLOAT, [11, 3])
    (step,) = products(work_of(onnx_models.write(tmp_path / "m.onnx", [node], ports, {"y": (FLOAT, [5, 3])}, weights)))

    assert (step.rows, step.inner, step.columns) == (5, 11, 3)
    assert step.weight_bytes == (4 * 11 * 3 if packed else 0)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("left", "right", "sizes"), [
    ([6, 5, 3], [6, 3, 4], (6, 5, 4, 3)),
    ([2, 3, 5, 7], [2, 3, 7, 1], (6, 5, 1, 7)),
    ([5, 3], [6, 3, 4], (6, 5, 4, 3)),
])  # fmt: skip
def test_stacked_products(tmp_path: Path, left: list[int], right: list[int], sizes: tuple[int, ...]) -> None:
    """count, rows, columns, inner; against the flop of the same einsum in numpy's own count."""
    out = list((np.zeros(left) @ np.zeros(right)).shape)
    node = helper.make_node("MatMul", ["x", "z"], ["y"])
    ports = {"x": (FLOAT, left), "z": (FLOAT, right)}, {"y": (FLOAT, out)}
    (step,) = products(work_of(onnx_models.write(tmp_path / "m.onnx", [node], *ports, {})))

    assert (step.count, step.rows, step.columns, step.inner) == sizes
    assert step.flop == 2 * np.prod(out) * left[-1] and step.weight_bytes == 0


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("channels", "out", "groups"), [(3, 8, 1), (16, 32, 1), (8, 8, 8), (1, 1, 1)])
def test_a_convolution(tmp_path: Path, channels: int, out: int, groups: int) -> None:
    """At least its multiply-adds; onnxruntime may pad channels to its vectors, and computes those too."""
    weight = np.ones((out, channels // groups, 3, 2), np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups)
    ports = {"x": (FLOAT, ["batch", channels, 9, 8])}, {"y": (FLOAT, ["batch", out, 7, 7])}
    (step,) = products(work_of(onnx_models.write(tmp_path / "m.onnx", [node], *ports, {"w": weight}), 5))
    true = 2 * 5 * out * 7 * 7 * (channels // groups) * 6

    assert true <= step.flop <= true * 16 * (8 // min(channels, 8) if groups == 1 else 1)
    if channels == 16:
        assert step.flop == true


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("two") / "two.onnx"
    layers = [edgefc.CirculantLinear(64, 96), nn.ReLU(), edgefc.CirculantLinear(96, 48), edgefc.PRPLinear(48, 32)]
    export(nn.Sequential(*layers, nn.Linear(32, 5)).eval(), torch.zeros(2, 64), path)
    return path


@pytest.mark.slow
def test_steps_belong_to_their_layers(two: Path) -> None:
    """Two of one kind are told apart, and the pieces of an If stay with their layer."""
    work = work_of(two, 4)
    names = [step.layer for step in work.steps]

    in_turn = [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]
    assert in_turn == ["0", "1", "2", "3", "4"]
    assert sum(step.flop for step in work.steps if step.layer == "3") == 2 * 4 * 48 * 32  # the folded matrix
    called = [(node.op, node.name) for node in graph.read(two).graph.nodes if node.domain == "edgefc"]
    assert called == [("CirculantLinear", "0"), ("CirculantLinear", "2"), ("PRPLinear", "3")]


def test_weights_that_are_computed_at_load_are_counted(two: Path) -> None:
    work = work_of(two, 1)

    assert sum(step.weight_bytes for step in work.steps if step.layer == "3") >= 4 * 48 * 32
    assert work.weight_bytes > 4 * (48 * 32 + 32 * 5)


def test_the_steps_of_a_loop_are_counted_each_time(tmp_path: Path) -> None:
    export(
        edgefc.PRPLinear(512, 512).eval(), torch.zeros(2, 512), tmp_path / "m.onnx", bodies={"PRPLinear": "streaming"}
    )

    work = work_of(tmp_path / "m.onnx", 3)

    assert sum(step.flop for step in work.steps) == 2 * 3 * 512 * 512
    assert not {"Loop", "If"} & {step.op for step in work.steps}


def test_models_that_do_not_run(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match=r"cannot load .*text\.onnx: it is not an ONNX file"):
        work_of(tmp_path / "text.onnx")
    with pytest.raises(UsageError, match=r"cannot load .*: No such file or directory"):
        work_of(tmp_path / "absent.onnx")


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "a\nb", 'a","x":{"y', "", "_inlfunc_Gone_token_3_x", "_if_then_branch"]
)
def test_names_of_any_kind(tmp_path: Path, name: str) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name=name)
    ports = {"x": (FLOAT, ["batch", 3])}, {"y": (FLOAT, ["batch", 3])}

    (step,) = work_of(onnx_models.write(tmp_path / "m.onnx", [node], *ports, {}), 2).steps

    assert (step.op, step.kind, step.activation_bytes) == ("Relu", "element", 48)


def test_a_profile_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.json, "loads", _broken)

    model = str(onnx_models.matmul(tmp_path / "m.onnx"))

    with pytest.raises(
        ModelError, match=r"cannot count the operations of .*: onnxruntime's profile of it is unreadable \(JSONDecodeE"
    ):
        probe.work(WorkQuestion(model, Wanted(1), str(tmp_path)))


@pytest.mark.parametrize("limit", [100, 500, 4096])
def test_a_disk_without_room_for_the_profile(tmp_path: Path, limit: int) -> None:
    """onnxruntime cuts its profile short then, and says nothing."""
    resource = pytest.importorskip("resource")
    nodes = [helper.make_node("Relu", [f"x{i}"], [f"x{i + 1}"], name="n" * 400 + str(i)) for i in range(8)]
    ports = {"x0": (FLOAT, ["batch", 3])}, {"x8": (FLOAT, ["batch", 3])}
    model = str(onnx_models.write(tmp_path / "m.onnx", nodes, *ports, {}))
    folder, old = tmp_path / "place" / "folder", resource.getrlimit(resource.RLIMIT_FSIZE)
    folder.mkdir(parents=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(UsageError) as caught:
            probe.work(WorkQuestion(model, Wanted(1), str(folder)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert str(caught.value) == (
        f"cannot write temporary files to {folder.parent}: File too large. "
        "Free some space there, or set TMPDIR to a folder on another disk."
    )


def _broken(text: str) -> None:
    raise json.JSONDecodeError("no", text, 0)


# ---- the roofline

CHOSEN = Constants(
    run_cycles=1000.0, step_cycles=100.0, product_cycles=0.5, efficiency=0.5, rows_half=1.0,
    l2_bytes_per_cycle=16.0, l3_bytes_per_cycle=8.0, memory_share=0.5, element_bytes_per_cycle=4.0,
    function_bytes_per_cycle=1.0, move_bytes_per_cycle=2.0, memory_fixed_bytes=1e6, memory_per_stored_byte=2.0,
    memory_per_folded_byte=3.0,
)  # fmt: skip
SPREAD = Spread(cells=9, least=0.25, p10=0.5, median=1.0, p90=2.0, most=4.0)
KNOWN = Calibration(
    machine="test", date="2026-01-01", versions={}, fitted_cells=9, constants=CHOSEN, latency=SPREAD, memory=SPREAD
)
BOARD = Rates(
    device="board", cores=4, clock_hz=1e9, flop_per_cycle=8.0, l2_bytes=1000, l3_bytes=0, traffic_bytes_per_s=2e9,
    total_bytes_per_s=3e9, memory_bytes=10**9,
)  # fmt: skip


def step(**changed: object) -> Step:
    given = Step(
        layer="a", op="MatMul", kind="product", count=1, rows=1, columns=5, inner=3, activation_bytes=32,
        live_bytes=32, weight_bytes=60, fresh_bytes=60, held_bytes=60,
    )  # fmt: skip
    return replace(given, **changed)  # type: ignore[arg-type]


def work(*steps: Step, file_bytes: int = 100) -> Work:
    return Work("m.onnx", file_bytes, 1, steps)


def test_arithmetic_by_hand() -> None:
    """30 operations at 8 x 0.5 x 1/2 a cycle are 15 cycles, and 100 beside them; stacked ones half a cycle more."""
    seconds, bound = step_seconds(step(), BOARD, CHOSEN, 1e12, 1)

    assert seconds == pytest.approx(115e-9) and bound == "overhead"
    assert step_seconds(step(count=1001), BOARD, CHOSEN, 1e12, 1) == (pytest.approx(15.615e-6), "arithmetic")
    assert step_seconds(step(count=1001), BOARD, CHOSEN, 1e12, 4)[0] == pytest.approx(3.97875e-6)


def test_weights_by_hand() -> None:
    seconds, bound = step_seconds(step(weight_bytes=10**6), BOARD, CHOSEN, 1e9, 1)

    assert seconds == pytest.approx(1e-3 + 100e-9) and bound == "weights"


@pytest.mark.parametrize(("kind", "cycles"), [("element", 23), ("function", 92), ("move", 46), ("view", 0)])
def test_other_steps_by_hand(kind: str, cycles: float) -> None:
    assert step_seconds(step(kind=kind), BOARD, CHOSEN, 1e12, 1)[0] == pytest.approx((100 + cycles) * 1e-9)


def test_where_weights_come_from() -> None:
    small, large = work(step(fresh_bytes=900)), work(step(fresh_bytes=2000))
    cached = replace(BOARD, l3_bytes=4000)

    assert weight_speed(small, BOARD, CHOSEN, 1) == 16e9
    assert weight_speed(large, cached, CHOSEN, 1) == 8e9
    assert weight_speed(large, BOARD, CHOSEN, 1) == 0.5 * 2e9
    assert weight_speed(large, BOARD, CHOSEN, 2) == 2e9
    assert weight_speed(large, BOARD, CHOSEN, 4) == 3e9  # no more than the memory has
    assert weight_speed(large, replace(BOARD, total_bytes_per_s=None), CHOSEN, 4) == 1e9


def test_the_parts_make_the_whole() -> None:
    found = estimate(work(step(), step(layer="b", kind="move"), step(layer="a")), BOARD, calibration=KNOWN)

    assert found.seconds == pytest.approx(1e-6 + sum(each.seconds for each in found.layers))
    assert [(each.layer, each.flop) for each in found.layers] == [("a", 60), ("b", 30)]
    assert found.low_seconds == pytest.approx(found.seconds / 2) and found.high_seconds == pytest.approx(
        found.seconds * 2
    )
    assert found.extrapolated and found.fits is True


def test_memory_by_hand() -> None:
    """180 bytes of weights, of which the file has 100: 1 MB + 2 x 100 + 3 x 80, and the largest step's arrays."""
    assert memory_bytes(work(step(), step(), step()), CHOSEN) == 1_000_000 + 200 + 240 + 32
    assert memory_bytes(work(step(), file_bytes=100), CHOSEN) == 1_000_000 + 200 + 32
    tiny = replace(BOARD, memory_bytes=1000)
    assert estimate(work(step()), tiny, calibration=KNOWN).fits is False


@pytest.mark.parametrize("threads", [0, 5])
def test_threads_that_there_are_not(threads: int) -> None:
    sentence = f"threads is {threads}; board has 4 equal cores. Give 1 to 4."
    with pytest.raises(UsageError, match=re.escape(sentence)):
        estimate(work(step()), BOARD, threads=threads, calibration=KNOWN)


def test_the_constants_that_are_shipped() -> None:
    known = Calibration.read()

    for spread in (known.latency, known.memory):
        assert 0 < spread.least <= spread.p10 <= spread.median <= spread.p90 <= spread.most
        assert spread.cells >= 20
    assert all(value > 0 for value in known.constants.model_dump().values())
    assert known.constants.l3_bytes_per_cycle <= known.constants.l2_bytes_per_cycle
    assert set(json.loads(CONSTANTS.read_text())["versions"]) == {"onnxruntime", "numpy", "python"}


# ---- rates


def test_rates_of_a_profile() -> None:
    found = rates.of_profile(profile.load("pi5"))

    assert (found.clock_hz, found.flop_per_cycle, found.cores) == (2.4e9, 16, 4)
    assert (found.l2_bytes, found.l3_bytes) == (524_288, 2_097_152)
    assert (found.traffic_bytes_per_s, found.total_bytes_per_s) == (2 * 6_025_000_000, 17e9)
    assert not found.measured_here


@pytest.mark.parametrize("key", profile.names())
def test_every_profile_gives_rates_or_says_what_it_lacks(key: str) -> None:
    found = profile.load(key)
    if key == "host":
        return
    if rates.usable(found):
        assert rates.of_profile(found).flop_per_cycle > 0
    else:
        with pytest.raises(UsageError, match=f"no estimate for {key}: its profile has no public source for its "):
            rates.of_profile(found)


def test_rates_of_this_machine() -> None:
    found = rates.of_this_machine()

    assert found.measured_here and 1e8 < found.clock_hz < 1e10 and found.traffic_bytes_per_s > 1e8


@pytest.mark.parametrize("out", [b"", b"{}", b'{"flop_per_s": "fast", "copy_bytes_per_s": 1}', b"[1]"])
def test_a_measurement_that_went_wrong(out: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates.subprocess, "run", lambda *a, **k: SimpleNamespace(stdout=out))

    with pytest.raises(DeviceError, match="cannot measure the speed of this machine: "):
        rates.of_this_machine()


# ---- the command


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_it_is_called_an_estimate(two: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(two), "--device", "pi5", "--batch", "3", "--json", str(home / "e.json")]) == 0

    out, told = capsys.readouterr().out, json.loads((home / "e.json").read_text())
    assert out.startswith("ESTIMATE, not measured: two.onnx on Raspberry Pi 5, batch 3, 1 thread, portable bodies\n")
    assert re.search(r"^latency \S+ us \(band \S+ us to \S+ us\)$", out, re.M)
    assert "Estimates were not checked on this device. This one is extrapolated" in out
    assert_valid(home / "e.json", "estimate")
    assert told["estimate"]["extrapolated"] is True and told["estimate"]["batch"] == 3
    assert told["calibration"]["latency"]["cells"] == Calibration.read().latency.cells
    assert {each["layer"] for each in told["estimate"]["layers"]} == {"0", "1", "2", "3", "4"}


def test_a_device_of_the_users_own(two: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inventory.add("kitchen", inventory.Device(profile="pi4", transport="ssh", address="k"))

    assert main(["estimate", str(two), "--device", "kitchen", "--threads", "2"]) == 0

    out = capsys.readouterr().out
    assert "on Raspberry Pi 4 Model B, batch 1, 2 threads" in out
    assert "Estimates for several threads were not checked on any device" in out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--device", "xiaomi-13"], "no estimate for xiaomi-13: its profile has no public source for its float32 "
         "operations per cycle. Measure on the device with edgefc profile, or estimate for one of: "),
        (["--device", "browser"], "no estimate for browser: its profile has no public source for "),
        (["--device", "pi9"], "no profile 'pi9'. Profiles are: "),
        (["--device", "plain"], "your device 'plain' was added without a profile. "),
        (["--device", "pi5", "--threads", "5"], "threads is 5; Raspberry Pi 5 has 4 equal cores. Give 1 to 4."),
        (["--device", "pi5", "--batch", "2", "--inputs", "x.npz"], "batch and inputs were both given"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    two: Path, home: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    inventory.add("plain", inventory.Device(transport="ssh", address="k"))

    assert main(["estimate", str(two), *more]) == 2

    line = capsys.readouterr().err
    assert line.startswith(f"edgefc estimate: {sentence}") and line.count("\n") == 1


def test_the_page_has_these_figures() -> None:
    page = (Path(__file__).resolve().parents[3] / "devices/README.md").read_text(encoding="utf-8")
    known = Calibration.read()

    for name, each in (("latency", known.latency), ("memory", known.memory)):
        figures = (each.least, each.p10, each.median, each.p90, each.most)
        assert f"| {name} | {each.cells} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |" in page


def test_the_python_call(two: Path, home: Path) -> None:
    """edgefc.devices.estimate() gives what the command shows."""
    from edgefc.devices import estimate as of_device

    assert main(["estimate", str(two), "--device", "pi5", "--batch", "3", "--json", str(home / "e.json")]) == 0
    told = json.loads((home / "e.json").read_text())["estimate"]

    assert of_device(two, "pi5", batch=3).seconds == told["seconds"]
