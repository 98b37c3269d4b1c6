"""Open axes: which stay open, their names, what is said of the others, and that the file is right along them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ShapesCollection

from edgefc import BilinearLinear, CirculantLinear, EUGenLinear, PRPLinear, StructuredAttention
from edgefc.errors import ExportError, UsageError
from edgefc.export import ExportReport, export, verify
from edgefc.export.tracing import axes
from edgefc.export.tracing.guards import Guards

SLOW = pytest.mark.slow
NMSE = 1e-10  # of float32: a relative error of 1e-5


class Encoder(nn.Module):
    """Tokens to vectors: an embedding, structured layers of each family, and a mean under a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.layers = nn.Sequential(CirculantLinear(8, 12), nn.GELU(), PRPLinear(12, 8), BilinearLinear(8, 8),
                                    EUGenLinear(8, 8, features=4))  # fmt: skip

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        hidden = self.layers(self.embed(input_ids))
        weights = attention_mask[..., None].to(hidden.dtype)
        return {"hidden": hidden, "pooled": (hidden * weights).sum(1) / weights.sum(1)}


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = StructuredAttention(8, 2, CirculantLinear, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return y


class PadsToFour(nn.Module):
    """Right for any length in torch; a traced graph only for lengths of one kind."""

    def forward(self, input_ids: Tensor) -> Tensor:
        missing = -input_ids.shape[1] % 4
        return nn.functional.pad(input_ids, (0, missing)).float() if missing else input_ids.float()


class Table(nn.Module):
    """At most 16 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.randn(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.steps[: x.shape[1]]
        return y


class ShortAndLong(nn.Module):
    """Another computation for short inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[1] > 6 else x


class Flattens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = CirculantLinear(40, 3)

    def forward(self, inputs_embeds: Tensor) -> Tensor:
        y: Tensor = self.layer(inputs_embeds.flatten(1))
        return y


def tokens(batch: int, length: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(batch * 100 + length)
    mask = torch.ones(batch, length, dtype=torch.long)
    if batch > 1:
        mask[0, length // 2 + 1 :] = 0
    return {"input_ids": torch.randint(0, 50, (batch, length), generator=generator), "attention_mask": mask}


def rows(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def assert_same(path: Path, model: nn.Module, feeds: Mapping[str, Tensor]) -> None:
    """onnxruntime on the file against torch in float64, by the names of the outputs."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    result = dict(zip(names, session.run(None, {k: v.numpy() for k, v in feeds.items()}), strict=True))
    with torch.no_grad():
        told = model.eval()(**feeds)
    expected = {names[0]: told} if isinstance(told, Tensor) else told
    assert result.keys() == expected.keys()
    for name, array in result.items():
        wanted = expected[name].double().numpy()
        assert array.shape == wanted.shape
        assert np.square(array - wanted).sum() <= NMSE * np.square(wanted).sum()


def shapes(report: ExportReport) -> dict[str, tuple[int | str, ...]]:
    return {info.name: info.shape for info in (*report.inputs, *report.outputs)}


@pytest.mark.parametrize("length", [1, pytest.param(14, marks=pytest.mark.slow)])
def test_tokens_are_open_by_default(tmp_path: Path, length: int) -> None:
    """Also where the example is one token long, which torch.export takes for a constant."""
    model = Encoder().eval()

    report = export(model, tokens(2, length), tmp_path / "m.onnx")

    assert shapes(report) == {
        "input_ids": ("batch", "tokens"), "attention_mask": ("batch", "tokens"),
        "hidden": ("batch", "tokens", 8), "pooled": ("batch", 8),
    }  # fmt: skip
    assert report.fixed == () and report.notes == ()
    for batch, other in ((1, 1), (3, 2), (2, 31)):
        assert_same(tmp_path / "m.onnx", model, tokens(batch, other))


def test_verify_runs_at_other_lengths(tmp_path: Path) -> None:
    """A file that is right for the examples' length only does not pass."""
    path = tmp_path / "m.onnx"
    export(ShortAndLong(), {"x": rows(2, 4, 3)}, path, dynamic_shapes={"x": {1: "steps"}}, verify=False)

    assert not verify(path, ShortAndLong(), {"x": rows(2, 4, 3)}).holds


def test_an_axis_is_fixed_where_the_model_fixes_it(tmp_path: Path) -> None:
    report = export(Flattens(), rows(2, 5, 8), tmp_path / "m.onnx")

    assert shapes(report)["inputs_embeds"] == ("batch", 5, 8)
    assert report.fixed == ("axis 1 of inputs_embeds is fixed at 5", "axis 2 of inputs_embeds is fixed at 8")
    assert len(report.notes) == 1
    assert report.notes[0].startswith("Flattens cannot run with tokens = 6 instead of 5: ShapeError")


def test_a_graph_for_some_lengths_only_is_refused(tmp_path: Path) -> None:
    """torch.export accepts such a graph without a word; by default the axis is fixed, and asked for it is an error."""
    example = torch.arange(16).reshape(2, 8)

    report = export(PadsToFour(), example, tmp_path / "m.onnx")

    assert shapes(report)["input_ids"] == ("batch", 8)
    assert "tokens fixed as in the examples" in report.notes[0]
    with pytest.raises(ExportError, match=r"dynamic axis 1 of input_ids: the graph is correct only if .*% 4"):
        export(PadsToFour(), example, tmp_path / "m.onnx", dynamic_shapes={"input_ids": {0: "batch", 1: "length"}})


def test_bounds_are_told(tmp_path: Path) -> None:
    report = export(Table(), rows(2, 5, 8), tmp_path / "t.onnx", dynamic_shapes={"x": {0: "batch", 1: "steps"}})
    assert report.notes == ("steps is at most 16",)

    report = export(ShortAndLong(), rows(2, 9, 8), tmp_path / "s.onnx", dynamic_shapes={"x": {1: "steps"}})
    assert report.notes == ("steps is at least 7: the file is incorrect for smaller sizes",)
    assert shapes(report) == {"x": (2, "steps", 8), "output": (2, "steps", 8)}

    with pytest.raises(ExportError, match=r"axis 1 of x should accept sizes from 2 to 64, .* from 2 to 16"):
        export(Table(), rows(2, 5, 8), tmp_path / "t.onnx", dynamic_shapes={"x": {1: Dim("steps", min=2, max=64)}})


@pytest.mark.parametrize(
    ("dynamic_shapes", "dynamic_batch", "expected"),
    [
        pytest.param({"x": {0: "n", 1: "steps"}}, None, ("n", "steps", 8), id="names"),
        pytest.param(({1: Dim("steps", min=1, max=99)},), None, (2, "steps", 8), id="dims-by-position"),
        pytest.param({"x": (None, Dim.DYNAMIC, None)}, None, (2, "x_axis1", 8), id="hint"),
        pytest.param(
            {"x": [Dim.STATIC, Dim.AUTO, 8]}, True, ("batch", "x_axis1", 8), id="beside-the-batch", marks=SLOW
        ),
        pytest.param({}, None, (2, 5, 8), id="nothing", marks=SLOW),
        pytest.param(None, False, (2, 5, 8), id="fixed", marks=SLOW),
    ],
)
def test_dynamic_shapes_as_torch_takes_them(
    tmp_path: Path, dynamic_shapes: Any, dynamic_batch: bool | None, expected: tuple[int | str, ...]
) -> None:
    model = Attends()

    report = export(
        model, rows(2, 5, 8), tmp_path / "m.onnx", dynamic_shapes=dynamic_shapes, dynamic_batch=dynamic_batch
    )

    assert report.inputs[0].shape == expected and report.outputs[0].shape == expected
    sizes = [9 if isinstance(size, str) else size for size in expected]
    assert_same(tmp_path / "m.onnx", model, {"x": rows(*sizes)})


@pytest.mark.parametrize(
    ("dynamic_shapes", "said"),
    [
        ({"y": {0: "batch"}}, "contains 'y', which is not an input of the model. Inputs: x."),
        ({"inputs": None, "xx": {1: "n"}}, "Did you mean 'x'?"),
        ({"x": {3: "n"}}, "contains axis 3 of 'x', whose shape is (2, 5, 8). Choose an axis from 0 to 2."),
        ({"x": {1: 4}}, "fixes axis 1 of 'x' at 4, but its size in the example is 5."),
        ({"x": {1: 2.5}}, "has 2.5 for axis 1 of 'x'."),
        ({"x": ("n", None)}, "has ('n', None) for 'x' of shape (2, 5, 8)."),
        ([None, None], "has 2 entries, but args has 1 arguments (x)."),
        ("batch", "dynamic_shapes is 'batch'."),
        (
            {"x": {0: "n", 1: "n"}},
            "axis 0 of x and axis 1 of x are both named 'n', but their sizes in the examples are 2 and 5",
        ),
    ],
)
def test_dynamic_shapes_that_cannot_be_used(tmp_path: Path, dynamic_shapes: Any, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        export(Table(), rows(2, 5, 8), tmp_path / "m.onnx", dynamic_shapes=dynamic_shapes)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_two_batches(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"axis 0 of a and axis 0 of b are both named 'batch', .* are 2 and 1"):
        export(Adds(), (torch.zeros(2, 3), torch.zeros(1, 3)), tmp_path / "m.onnx")


class Adds(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a.sum() + b


def test_scalars_have_no_axis_to_open(tmp_path: Path) -> None:
    report = export(Adds(), (torch.tensor(1.0), torch.tensor(2.0)), tmp_path / "m.onnx")
    assert shapes(report) == {"a": (), "b": (), "output": ()}


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        pytest.param(
            {"input_ids": 11, "attention_mask": 11, "decoder_input_ids": 5, "decoder_attention_mask": 5},
            ["tokens", "tokens", "decoder_tokens", "decoder_tokens"],
            id="encoder and decoder",
        ),
        pytest.param(
            {"query_input_ids": 4, "query_attention_mask": 4, "passage_input_ids": 4},
            ["query_tokens", "query_tokens", "passage_tokens"],
            id="two encoders, of one size by chance",
        ),
        pytest.param(
            {"features_input_ids": 4, "features_attention_mask": 4}, ["tokens", "tokens"], id="in a dict of forward's"
        ),
        pytest.param(
            {"input_ids": 8, "global_attention_mask": 8, "labels": 3},
            ["tokens", "tokens", "labels_axis1"],
            id="labels of another length",
        ),
    ],
)
def test_names_of_axes_that_are_open_by_default(sizes: Mapping[str, int], wanted: list[str]) -> None:
    plan = axes.default_plan(list(sizes), [torch.zeros(2, size, dtype=torch.int64) for size in sizes.values()])

    assert [axes[1].name for axes in plan] == wanted


class Translator(nn.Module):
    """Two sequences of tokens, each of its own length."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer = nn.Embedding(50, 8), CirculantLinear(8, 8, seed=1)

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor) -> Tensor:
        keys, queries = self.layer(self.embed(input_ids)), self.embed(decoder_input_ids)
        return (queries @ keys.mT).softmax(-1) @ keys


def test_an_encoder_and_a_decoder_have_lengths_of_their_own(tmp_path: Path) -> None:
    model, path = Translator().eval(), tmp_path / "m.onnx"
    ids = {"input_ids": torch.randint(50, (2, 11)), "decoder_input_ids": torch.randint(50, (2, 5))}

    report = export(model, ids, path)

    assert [info.shape for info in report.inputs] == [("batch", "tokens"), ("batch", "decoder_tokens")]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows, length, other in ((1, 1, 3), (3, 4, 20)):
        sizes = {"input_ids": length, "decoder_input_ids": other}
        feeds = {name: torch.randint(50, (rows, size)) for name, size in sizes.items()}
        (result,) = session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()})
        with torch.no_grad():
            wanted = model(**feeds).double().numpy()
        assert np.square(result - wanted).sum() < NMSE * np.square(wanted).sum()


def test_values_of_sizes() -> None:
    assert axes.value_of("past + tokens", {"past": 3, "tokens": 4}) == 7
    assert axes.value_of("2*x", {"x": 3}) == 6
    assert axes.value_of("x // 2 - 1", {"x": 9}) == 3
    for text in ("past", "x ** 9", "x.y", "f(x)", "x +", "1 // 0", "(" * 500):
        assert axes.value_of(text, {"x": 3}) is None


class Masked(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)


def test_a_row_that_attends_to_nothing_is_zero(tmp_path: Path) -> None:
    """As torch has it; a padded decoder has such rows."""
    x, mask = rows(2, 2, 4, 8), torch.ones(2, 1, 4, 4, dtype=torch.bool)
    mask[0, :, 1] = False

    export(Masked(), (x, mask), tmp_path / "m.onnx", verify=False)

    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    result = session.run(None, {"x": x.numpy(), "mask": mask.numpy()})[0]
    assert not result[0, :, 1].any()
    np.testing.assert_allclose(result, Masked()(x, mask), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("guards", "expected"),
    [
        ([], (2, None)),
        (["SIZE == min(512, SIZE)"], (2, 512)),
        (["SIZE <= 100000", "SIZE > 6"], (7, 100000)),
        (["(8*SIZE) != 8", "SIZE != 1"], (2, None)),
        (["SIZE == SIZE or min(512, SIZE) == 1"], (2, None)),
        (["3 * SIZE < 2**20"], (2, 349525)),
        (["SIZE % 4 == 0"], "x.shape[1] % 4 == 0"),
        (["SIZE == 8"], "x.shape[1] == 8"),
        (["unknown(SIZE)"], "unknown(x.shape[1])"),
        (["L['self'].flag == True"], (2, None)),
    ],
)
def test_bounds_by_guards(guards: list[str], expected: Any) -> None:
    """Around a size of 8; what cannot be evaluated is taken to hold nowhere else."""
    texts = [guard.replace("SIZE", "L['tensors'][0].size()[1]") for guard in guards]
    plan: axes.Plan = ({0: axes.Axis("batch"), 1: axes.Axis("steps")},)
    guards = Guards(texts, ["x"], plan, [(2, 8, 3)])

    if isinstance(expected, str):
        with pytest.raises(ValueError, match=re.escape(expected)):
            guards.bounds("steps", {"batch": 2, "steps": 8})
    else:
        assert guards.bounds("steps", {"batch": 2, "steps": 8}) == expected


class Difference(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = CirculantLinear(8, 8)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        y: Tensor = self.layer(a) - b
        return y


def test_two_names_for_one_size(tmp_path: Path) -> None:
    shapes = {"a": {0: "n"}, "b": {0: "m"}}
    report = export(Difference(), (torch.randn(4, 8), torch.randn(4, 8)), tmp_path / "m.onnx", dynamic_shapes=shapes)

    assert report.notes == ("m is renamed n: the model requires the same size for both",)
    assert [info.shape for info in report.inputs] == [("n", 8), ("n", 8)]
    assert {shape[0][0] for shape in report.verified.shapes} == {1, 3, 4}


def test_a_dim_without_bounds_asks_for_no_size_of_zero(tmp_path: Path) -> None:
    """torch writes a least size of 0 into it, and circulant layers cannot be run on that in onnxruntime."""
    model = nn.Sequential(CirculantLinear(8, 8))
    report = export(model, torch.randn(2, 3, 8), tmp_path / "m.onnx", dynamic_shapes=({0: Dim("b"), 1: Dim("t")},))

    assert report.verified.shapes == (((2, 3, 8),), ((1, 1, 8),), ((3, 6, 8),))


def test_a_shapes_collection(tmp_path: Path) -> None:
    a, b = torch.randn(2, 4, 8), torch.randn(4, 8)
    shapes = ShapesCollection()
    shapes[a] = {0: "rows"}
    report = export(Difference(), (a, b), tmp_path / "m.onnx", dynamic_shapes=shapes)
    assert [info.shape for info in report.inputs] == [("rows", 4, 8), (4, 8)]

    shapes[torch.randn(3)] = {0: "other"}
    with pytest.raises(UsageError, match="ShapesCollection in dynamic_shapes does not match args"):
        export(Difference(), (a, b), tmp_path / "m.onnx", dynamic_shapes=shapes)


class Branches(nn.Module):
    """Another function where `condition` of its shape holds."""

    def __init__(self, condition: Callable[[Any], bool]) -> None:
        super().__init__()
        self.condition = condition

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.condition(x.shape) else x * 3


def test_sizes_that_depend_on_each_other_are_told(tmp_path: Path) -> None:
    shapes = {"x": {0: "rows", 1: "tokens"}}
    model = Branches(lambda shape: shape[1] + 20 > shape[0])
    notes = export(model, torch.randn(2, 4), tmp_path / "m.onnx", dynamic_shapes=shapes).notes
    assert "rows and tokens depend on each other" in notes[0]

    apart = Branches(lambda shape: shape[0] < 40 and shape[1] < 50)
    notes = export(apart, torch.randn(2, 4), tmp_path / "n.onnx", dynamic_shapes=shapes).notes
    assert notes == ("rows is at most 39", "tokens is at most 49")


def test_an_axis_that_is_a_multiple_is_tried_at_other_sizes(tmp_path: Path) -> None:
    shapes = {"x": {1: 2 * Dim("pairs")}}
    report = export(nn.Flatten(), torch.randn(2, 4, 3), tmp_path / "m.onnx", dynamic_shapes=({1: 2 * Dim("pairs")},))
    assert report.verified.shapes == (((2, 4, 3),), ((2, 2, 3),), ((2, 10, 3),))

    with pytest.raises(ExportError, match=r"dynamic axis 1 of x: the graph is correct only if x.shape\[1\] != 10"):
        export(Branches(lambda shape: shape[1] == 10), torch.randn(2, 4), tmp_path / "m.onnx", dynamic_shapes=shapes)


class Steps(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([2 * x[:, step] for step in range(x.shape[1])], 1)


def test_only_the_axis_that_cannot_be_open_is_fixed(tmp_path: Path) -> None:
    shapes = {"x": (Dim.AUTO, Dim.AUTO, None)}
    report = export(Steps(), torch.randn(2, 4, 8), tmp_path / "m.onnx", dynamic_shapes=shapes)

    assert report.inputs[0].shape == ("x_axis0", 4, 8)
    assert report.notes == ("x_axis1 fixed as in the examples: the model supports only one size",)


def test_a_name_may_be_a_keyword_of_python(tmp_path: Path) -> None:
    report = export(nn.Flatten(), torch.randn(2, 4), tmp_path / "m.onnx", dynamic_shapes=({0: "lambda"},))
    assert [shape[0][0] for shape in report.verified.shapes] == [2, 1, 3]
