"""verify() of outputs in parts: honest models pass whatever their outputs look like, and one wrong part is found."""

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from edgefc import CirculantLinear, PRPLinear
from edgefc.errors import CheckFailed, ExportError, UsageError
from edgefc.export import export, verify
from edgefc.export.model.state import as_given
from edgefc.export.tracing.adapter import Adapter, named_inputs
from edgefc.export.verifying.drawn import drawn_inputs
from edgefc.export.verifying.judges import judge
from edgefc.export.verifying.measures import Comparison
from edgefc.export.verifying.rounding import magnified_rounding
from edgefc.export.verifying.running import torch_outputs
from tests.support import cli_models as models
from tests.support import onnx_models

OUTPUTS = 12


class Heads(nn.Module):
    """Outputs on which a comparison by parts could go wrong, each from a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(CirculantLinear(8, 64), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(64, 24) for _ in range(OUTPUTS))
        self.vocabulary = nn.Linear(64, 3_000)
        with torch.no_grad():
            self.heads[0].weight[:4] = 0
            self.heads[0].bias[:4] = torch.tensor([31_000.0, 22_000.0, 64_000.0, 48_000.0])
            self.heads[0].bias[4:] = 0

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.body(x)
        y = [head(x) for head in self.heads]
        mask = torch.arange(24) > 18
        return (
            y[0],  # coordinates beside scores
            (40 * y[1]).softmax(-1),
            (60 * y[2]).sigmoid(),  # down to 1e-17, where onnxruntime stops at 1e-8
            torch.cat([(y[3] + 200) * 3 - y[3] * 3 - 600, y[3]], -1),  # nothing but rounding errors, and others
            (y[4] - 10).relu() + y[4].relu(),  # dead columns
            nn.functional.layer_norm(y[5], (24,)),
            nn.functional.gelu(6 * y[6]),
            (y[7].sigmoid() * 255).round().to(torch.uint8),
            y[8].masked_fill(mask, float("-inf")),
            y[9].argmax(-1),
            y[10] > 0,
            (100 * y[11]).round(),  # whole numbers as floats
            self.vocabulary(x),
        )


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> tuple[Heads, Path]:
    torch.manual_seed(0)
    model, path = Heads().eval(), tmp_path_factory.mktemp("heads") / "heads.onnx"
    export(model, models.rows(2), path, verify=False)
    return model, path


@pytest.mark.parametrize("rows", [1, 5])
def test_honest_outputs_hold(heads: tuple[Heads, Path], rows: int) -> None:
    model, path = heads

    report = verify(path, model, models.rows(rows))

    assert report.holds, report.sentence()
    assert report.sentence().startswith("torch and onnxruntime agree at 1, ")
    assert set(report.constant) <= {"output_9"}


@pytest.mark.parametrize("first", [0, 1], ids=["even", "odd"])
def test_one_wrong_column_is_found(heads: tuple[Heads, Path], first: int) -> None:
    """The sign of one class is turned in every other head: those fail, and the heads beside them do not."""
    model, path = copy.deepcopy(heads[0]), heads[1]
    with torch.no_grad():
        for index in range(first, OUTPUTS, 2):
            columns = slice(None) if index == 9 else 17  # one class of an argmax is seldom the largest
            model.heads[index].weight[columns] *= -1
            model.heads[index].bias[columns] *= -1

    report = verify(path, model, models.rows(4))

    assert report.sentence().startswith("torch and onnxruntime do not agree: output 'output"), report.sentence()
    names = list(dict.fromkeys(output.name for output in report.outputs))
    failed = {names.index(output.name) for output in report.outputs if not output.holds}
    assert failed == set(range(first, OUTPUTS, 2))


def test_one_wrong_word_of_the_vocabulary_is_found(heads: tuple[Heads, Path]) -> None:
    model, path = copy.deepcopy(heads[0]), heads[1]
    with torch.no_grad():
        model.vocabulary.weight[2_345] *= 1.001

    report = verify(path, model, models.rows(1))

    assert not report.holds and report.worst.part == "column 2345" and report.worst.nmse < 1e-8


def test_rounding_is_a_small_change_of_what_it_should_change(heads: tuple[Heads, Path]) -> None:
    """Magnified rounding moves the difference of large numbers, and leaves masks and exact numbers alone."""
    model, x = heads[0], models.rows(2)
    with torch.no_grad():
        plain = model(x)
        with magnified_rounding(0):
            changed = model(x)
        with magnified_rounding(0):
            again = model(x)

    gaps = [(a.double() - b.double()).abs().nan_to_num() for a, b in zip(plain, changed, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(changed, again, strict=True))
    assert 1e-6 < gaps[0][:, 4:].max() < 1e-4  # scores of about 1
    assert 1e-4 < gaps[3][:, :24].max() < 1e-2  # 600 - 600
    assert torch.equal(plain[8].isfinite(), changed[8].isfinite())
    assert sum(torch.equal(plain[i], changed[i]) for i in (7, 9, 10)) >= 1


class Chosen(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def fails(path: Path, model: nn.Module, x: Any, *, nothing: bool = False, **options: Any) -> str:
    report = verify(path, model, x, **options)
    assert not report.holds and report.sentence().startswith(
        f"torch and onnxruntime {'were not compared' if nothing else 'do not agree'}: "
    )
    with pytest.raises(CheckFailed) as caught:
        report.raise_if_failed("m.onnx")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


def linear(**changes: float) -> nn.Linear:
    """8 -> 4, always the same, with a tensor filled by name."""
    torch.manual_seed(1)
    layer = nn.Linear(8, 4)
    with torch.no_grad():
        for name, value in changes.items():
            layer.get_parameter(name).fill_(value)
    return layer


def linear_file(folder: Path, layer: nn.Linear) -> Path:
    weights = {"w": layer.weight.detach().numpy(), "b": layer.bias.detach().numpy()}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    ports = {"x": (onnx_models.FLOAT, ["n", 8])}
    return onnx_models.write(folder / "m.onnx", [node], ports, {"y": (onnx_models.FLOAT, ["n", 4])}, weights)  # type: ignore[arg-type]


def test_equal_nans_are_no_agreement(tmp_path: Path) -> None:
    nan = linear(weight=float("nan"))
    path = linear_file(tmp_path, nan)

    said = fails(path, linear(bias=float("nan")), models.rows(2), nothing=True)
    assert (
        said.startswith("m.onnx cannot be verified: output 'y' is NaN or infinite in ") and "--allow-nonfinite" in said
    )
    assert "in other positions" in fails(path, linear(), models.rows(2))
    report = verify(path, nan, models.rows(2), allow_nonfinite=True)
    assert report.holds and "12 of 12 entries of 'y' are NaN or infinite in both" in report.sentence()


def test_a_column_of_nan_is_no_agreement(tmp_path: Path) -> None:
    layer = linear()
    with torch.no_grad():
        layer.bias[2] = float("nan")

    assert "NaN in all of column 2" in fails(linear_file(tmp_path, layer), layer, models.rows(2), nothing=True)


def test_zero_inputs_do_not_hide_wrong_weights(tmp_path: Path) -> None:
    """At zero any two layers without a bias agree: drawn inputs tell them apart."""
    nothing, zero = linear(weight=0.0, bias=0.0), torch.zeros(2, 8)
    path = linear_file(tmp_path, nothing)

    report = verify(path, nothing, zero)
    assert report.holds and report.constant == ("y",)
    assert report.sentence().endswith("; output 'y' did not change with the input")
    assert "on random inputs of shapes (2, 8); " in fails(path, linear(bias=0.0), zero)


@pytest.mark.parametrize(
    ("x", "changes"),
    [
        pytest.param(torch.tensor([[3, 0, 7]]), True, id="tokens"),
        pytest.param(torch.tensor([[0, 0, 0]]), False, id="constant-integers"),
        pytest.param(torch.tensor([[1, 1, 0]]), False, id="integer-mask"),
        pytest.param(torch.tensor([[True, False]]), False, id="bool"),
        pytest.param(torch.tensor([[1.0, 0.0]]), False, id="float-mask"),
        pytest.param(torch.tensor([[0.2, 0.7]]), True, id="floats"),
        pytest.param(torch.tensor([[2.0, 2.0]]), True, id="constant-floats"),
        pytest.param(torch.zeros(1, 2), True, id="zeros"),
        pytest.param(torch.zeros(1, 0), False, id="empty"),
        pytest.param(torch.tensor(0.7), True, id="scalar"),
        pytest.param(torch.tensor([1.0, float("-inf")]), False, id="infinite"),
    ],
)  # fmt: skip
def test_drawn_inputs(x: Tensor, changes: bool) -> None:
    """They keep shape, type and range."""
    drawn = drawn_inputs((x,))

    assert (drawn is not None) == changes
    if drawn is not None:
        (y,) = drawn
        assert y.shape == x.shape and y.dtype == x.dtype and not torch.equal(x, y)
        if x.min() < x.max():
            assert x.min() <= y.min() and y.max() <= x.max()


def test_inputs_that_cannot_be_varied_are_reported(tmp_path: Path) -> None:
    model, x = nn.Embedding(4, 8), torch.zeros(2, 3, dtype=torch.int64)
    ports = {"x": (onnx_models.INT64, ["n", 3])}
    node = helper.make_node("Gather", ["w", "x"], ["y"])
    weights = {"w": model.weight.detach().numpy()}
    path = onnx_models.write(tmp_path / "m.onnx", [node], ports, {"y": (onnx_models.FLOAT, ["n", 3, 8])}, weights)  # type: ignore[arg-type]

    report = verify(path, model, x)

    assert report.holds
    assert report.sentence().endswith("no other inputs were tested: they are only masks and constant integers")


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y + torch.rand_like(y)


def test_a_random_model_is_not_the_fault_of_the_file(tmp_path: Path) -> None:
    path, before = linear_file(tmp_path, linear()), torch.random.get_rng_state()

    with pytest.raises(CheckFailed, match=r"^Noisy is random: two runs .* differ in output 'y'") as caught:
        verify(path, Noisy(), models.rows(2))

    assert caught.value.exit_code == 1
    assert torch.equal(torch.random.get_rng_state(), before)


class Counts(nn.Module):
    """State that a run changes in place: each run of a check starts from the same."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return x * self.steps


def test_state_is_not_taken_for_chance(tmp_path: Path) -> None:
    model, x = Counts(), (torch.ones(1),)

    with as_given(model) as given:
        adapter = Adapter(model, named_inputs(model, x, {}))
        assert [torch_outputs(given, adapter, x)[0].item() for _ in range(2)] == [1, 1]
    assert model.steps == 0


class Leaves(nn.Module):
    """Ends the process, at the call with that number."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.calls, self.at = itertools.count(1), at  # an iterator: no state that a check would put back

    def forward(self, x: Tensor) -> Tensor:
        if next(self.calls) >= self.at:
            raise SystemExit(0)
        return 2 * x


@pytest.mark.parametrize("at", [1, 3], ids=["as-it-is", "traced"])
def test_a_forward_that_exits_is_an_error(tmp_path: Path, at: int) -> None:
    with pytest.raises(ExportError, match="SystemExit: 0"):
        export(Leaves(at), models.rows(2), tmp_path / "m.onnx")

    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_a_forward_that_exits_is_not_verified(tmp_path: Path, at: int) -> None:
    with pytest.raises(UsageError, match="SystemExit: 0"):
        verify(linear_file(tmp_path, linear()), Leaves(at), models.rows(2))


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        pytest.param([0.5, 1.5, 2.4999998, 7.0], True, id="ties"),
        pytest.param([0.3, 1.3, 2.2, 7.0], False, id="no-ties"),
    ],
)
def test_rounding_explains_only_what_is_near_a_tie(values: list[float], holds: bool) -> None:
    """onnxruntime gives one more at the first entry; torch is near a tie there, or is not."""
    x = torch.tensor([values])
    model = Chosen(lambda t: (t * 1.0 + 1e-9 * t).round().to(torch.int32))
    with torch.no_grad():
        expected = model(x).numpy()
        actual = expected.copy()
        actual[0, 0] += 1 if expected[0, 0] == 0 else -1
        judging = judge(Comparison("y", 1, (), False, (), 0, 0, 1e-9), actual, expected, allow_nonfinite=False)
        assert not judging.settled
        for seed in range(16):
            with magnified_rounding(seed):
                judging.observe(model(x).numpy())

    assert judging.comparison().holds is holds
    assert judging.comparison().differing == 1


def test_too_many_ties_do_not_hold() -> None:
    expected = np.zeros((4, 1000), np.int64)
    draft = Comparison("y", 4, (), False, (), 0, 0, 1e-9)
    for count, holds in ((4, True), (5, False)):
        actual = expected.copy()
        actual.flat[:count] = 1
        judging = judge(draft, actual, expected, allow_nonfinite=False)
        judging.observe(np.ones_like(expected))
        assert judging.comparison().holds is holds


def test_an_output_that_rounding_decides_cannot_be_verified() -> None:
    """Rounding moves it as far as its size, so that any other output would pass."""
    rng = np.random.default_rng(0)
    actual, expected = rng.normal(size=(2, 3, 50)).astype(np.float32)
    judging = judge(Comparison("y", 3, (), False, (), 0, 0, 1e-9), actual, expected, allow_nonfinite=False)
    for _ in range(16):
        judging.observe(rng.normal(size=(3, 50)).astype(np.float32))

    assert not judging.comparison().holds
    assert "rounding alone changes this output so much" in (judging.comparison().failure or "")


class Whole(nn.Module):
    """Float noise turned into whole numbers: an image, labels and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = CirculantLinear(256, 256)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.layer(x)
        return (y.sigmoid() * 255).round().to(torch.uint8), (y * 50).round(), y.argmax(-1), y > 0


@pytest.mark.slow
def test_whole_numbers_are_judged_by_count(tmp_path: Path) -> None:
    """Of 131,072 entries a handful differ, and are reported. A model with weights off by 1 % differs in more."""
    torch.manual_seed(0)
    model, x = Whole(), torch.randn(512, 256)

    report = export(model, x, tmp_path / "m.onnx").verified

    assert (
        report is not None and report.holds and all(output.bound == 0 or output.nmse == 0 for output in report.outputs)
    )
    assert sum(output.differing for output in report.outputs) < 50
    for output in {output.name: output for output in report.outputs if output.differing}.values():
        assert f" of {output.size:,} entries" in report.sentence() or output.size < 131_072
    with torch.no_grad():
        model.layer.kernel *= 1 + 1e-2 * torch.randn_like(model.layer.kernel)
    wrong = verify(tmp_path / "m.onnx", model, x[:64])
    assert not any(output.holds for output in wrong.outputs if output.size >= 16_384)


def half() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 40), nn.Softmax(-1)).half()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x[:, None].expand(-1, 12, -1) + 0)[0]
        return y


HONEST = {
    "half": (half, torch.float16, {}),
    "dft": (lambda: nn.Sequential(CirculantLinear(8, 255), nn.ReLU(), CirculantLinear(255, 1001)), torch.float32,
            {"bodies": {"CirculantLinear": "dft"}}),
    "double": (lambda: nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 40)).double(), torch.float64, {}),
    "prp": (lambda: nn.Sequential(PRPLinear(8, 64), nn.ReLU(), PRPLinear(64, 1000)), torch.float32, {}),
    "lstm": (Recurrent, torch.float32, {}),
    "scalar": (lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)), torch.float32, {}),
    "encoder": (lambda: nn.Sequential(nn.Linear(8, 32), nn.Unflatten(-1, (4, 8)), nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 32, batch_first=True), 2, enable_nested_tensor=False)), torch.float32, {}),
    "conv": (lambda: nn.Sequential(nn.Unflatten(-1, (1, 8)), nn.Conv1d(1, 16, 3), nn.BatchNorm1d(16), nn.SiLU(),
        nn.Flatten(), nn.Linear(96, 500), nn.LogSoftmax(-1)), torch.float32, {}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", HONEST)
def test_honest_models_hold(tmp_path: Path, name: str) -> None:
    """Two sets of weights, 8 of inputs, 1 row and more: no rounding error of a correct runtime counts as wrong."""
    make, dtype, options = HONEST[name]
    for weights in range(2):
        torch.manual_seed(weights)
        model = make()  # type: ignore[operator]
        export(model, torch.randn(2, 8).to(dtype), tmp_path / "m.onnx", verify=False, **options)  # type: ignore[arg-type]
        for inputs in range(8):
            x = torch.randn(1 + inputs % 4, 8, generator=torch.Generator().manual_seed(inputs)).to(dtype)  # type: ignore[arg-type]

            report = verify(tmp_path / "m.onnx", model, x)

            assert report.holds, f"weights {weights}, inputs {inputs}: {report.sentence()}"
