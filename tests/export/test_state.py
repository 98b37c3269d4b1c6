"""Export, verify and the search for a diverging layer leave the model as it was, and run it from the state as given."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgefc import CirculantLinear, PRPLinear
from edgefc.errors import CheckFailed, ExportError, UsageError
from edgefc.export import export, verify
from edgefc.export.model.snapshot import Snapshot
from edgefc.export.model.state import as_given, note_on_state
from edgefc.export.tracing.adapter import Adapter, named_inputs
from edgefc.export.verifying.divergence import first_layer_off
from tests.support import cli_models as models

X = torch.linspace(-2, 3, 16).reshape(2, 8)


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = CirculantLinear(8, 8)


class Counts(Base):
    def __init__(self, persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()), persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return self.layer(x) * self.steps


class CountsAssigned(Counts):
    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + 1
        return self.layer(x) * self.steps


class CountsSilently(Counts):
    """The state does not reach the output."""

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        y: Tensor = self.layer(x)
        return y


class RunningMean(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((8,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x) - self.mean
        self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return y


class Remembers(Base):
    """A plain attribute, None before the first run."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        before = torch.zeros_like(x) if self.hidden is None else self.hidden
        self.hidden = torch.tanh(self.layer(x) + before)
        return self.hidden


class Lists(Base):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.mean())
        y: Tensor = self.layer(x) * len(self.seen)
        return y


class Cache:
    def __init__(self) -> None:
        self.calls, self.last = 0, torch.zeros(())


class HoldsAnObject(Base):
    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache()

    def forward(self, x: Tensor) -> Tensor:
        self.cache.calls += 1
        self.cache.last = self.cache.last + 1
        y: Tensor = self.layer(x) * self.cache.last
        return y


class WritesItsWeight(Base):
    """By .data, which moves no version counter: spectral norms and weight clipping do so."""

    def forward(self, x: Tensor) -> Tensor:
        self.layer.kernel.data.mul_(0.5)
        y: Tensor = self.layer(x)
        return y


STATEFUL = [
    (Counts, "Counts changes steps:"),
    (lambda: Counts(persistent=False), "Counts changes steps:"),
    (CountsAssigned, "CountsAssigned changes steps:"),
    (CountsSilently, "CountsSilently changes steps:"),
    (RunningMean, "RunningMean changes mean:"),
    (Remembers, "Remembers changes hidden:"),
    (Lists, "Lists changes seen:"),
    (HoldsAnObject, "HoldsAnObject changes objects in its attributes:"),
]


def state_of(model: nn.Module) -> list[Any]:
    """Every tensor of a model with its bits and what autograd knows, every flag and every plain attribute."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    facts: list[Any] = [
        (name, id(t), t.data_ptr(), None if t.is_meta else t.detach().numpy().tobytes(), t.requires_grad, id(t.grad))
        for name, t in tensors
    ]
    for name, module in model.named_modules():
        plain = {key: id(value) for key, value in vars(module).items() if not isinstance(value, dict)}
        facts.append((name, module.training, plain, list(module._buffers), list(module._parameters)))
    return facts


def run(path: Path, x: Tensor = X) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    result: list[Any] = session.run(None, {name: x.numpy()})
    again = session.run(None, {name: x.numpy()})
    assert all((one == two).all() for one, two in zip(result, again, strict=True))
    return result


def first_answer(model: nn.Module, x: Tensor = X) -> Tensor:
    with torch.no_grad():
        y: Tensor = copy.deepcopy(model).eval()(x)
        return y


def close(actual: Any, expected: Tensor) -> bool:
    return torch.allclose(torch.as_tensor(actual), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("make", "said"), STATEFUL)
def test_state_between_runs_is_named(make: Callable[[], nn.Module], said: str) -> None:
    model = make().train()
    before = state_of(model)

    with as_given(model) as given:
        for _ in range(2):
            with given.run() as ready:
                note = note_on_state(ready, lambda: model(X))
            assert note is not None and said in note

    assert state_of(model) == before
    assert not getattr(model, "seen", []) and getattr(model, "cache", Cache()).calls == 0


def test_attributes_that_reach_no_later_run_are_not_named() -> None:
    """Attention maps that are kept to be looked at, and constants that the first run makes."""

    class Keeps(Base):
        def forward(self, x: Tensor) -> Tensor:
            if not hasattr(self, "table"):
                self.register_buffer("table", torch.ones(8), persistent=False)
            self.last = self.layer(x)
            y: Tensor = self.last * self.table
            return y

    model = Keeps()
    with as_given(model) as given, given.run() as ready:
        assert note_on_state(ready, lambda: model(X)) is None
        assert model.last.shape == (2, 8)
    assert not hasattr(model, "last") and not hasattr(model, "table")


@pytest.mark.slow
def test_a_file_of_a_model_with_state_answers_as_a_first_run(tmp_path: Path) -> None:
    """Every kind of state at once."""
    model = nn.Sequential(*(make() for make, _ in STATEFUL)).train()
    expected, before = first_answer(model), state_of(model)

    report = export(model, X, tmp_path / "m.onnx")

    assert state_of(model) == before
    [actual] = run(tmp_path / "m.onnx")
    assert close(actual, expected)
    assert report.verified is not None and report.verified.holds
    assert verify(tmp_path / "m.onnx", model, X).holds
    with as_given(model) as given:
        adapter = Adapter(model, named_inputs(model, (X,), {}))
        assert first_layer_off(tmp_path / "m.onnx", given, adapter, (X,), 1e-9) is None
    assert state_of(model) == before


@pytest.mark.slow
@pytest.mark.parametrize(("make", "said"), STATEFUL)
def test_the_file_answers_as_a_first_run(tmp_path: Path, make: Callable[[], nn.Module], said: str) -> None:
    """Every time, with the model's own output only; verify agrees, and the model is as it was, mode and all."""
    model = make().train()
    expected, before = first_answer(model), state_of(model)

    report = export(model, X, tmp_path / "m.onnx")

    assert state_of(model) == before
    [actual] = run(tmp_path / "m.onnx")
    assert close(actual, expected)
    assert report.verified is not None and report.verified.holds
    assert verify(tmp_path / "m.onnx", model, X).holds
    assert state_of(model) == before
    assert len(report.notes) == 1 and said in report.notes[0], report.notes


@pytest.mark.slow
def test_state_that_was_there_is_kept(tmp_path: Path) -> None:
    """A model that has run before: its state is the file's, not the initial one."""
    model = Counts()
    model(X)
    model(X)

    export(model, X, tmp_path / "m.onnx")

    assert model.steps == 2
    assert close(run(tmp_path / "m.onnx")[0], model.layer(X).detach() * 3)


@pytest.mark.slow
def test_an_embedding_that_renormalises_its_table(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(10, 8, max_norm=0.1), nn.Linear(8, 8))
    ids, before = torch.arange(6).reshape(2, 3), state_of(model)
    expected = first_answer(model, ids)

    export(model, ids, tmp_path / "m.onnx")

    assert state_of(model) == before
    assert close(run(tmp_path / "m.onnx", ids)[0], expected)


class Untraced(Base):
    """Writes its weight by .data, which moves no version counter; statistics of a layer that always trains; a tensor
    in place that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.count = nn.BatchNorm1d(8), torch.zeros(2)

    def forward(self, x: Tensor) -> Tensor:
        self.layer.kernel.data.mul_(0.5)
        self.count[1:] += 1
        y: Tensor = nn.functional.batch_norm(
            self.layer(x), self.norm.running_mean, self.norm.running_var, training=True
        )
        return y


def test_runs_put_back_what_they_write_by_any_way() -> None:
    model = Untraced()
    before, count = state_of(model), model.count

    with as_given(model) as given:
        for _ in range(2):
            with given.run() as ready:
                model(X)
                assert ready.changed_tensors() == ["layer.kernel", "norm.running_mean", "norm.running_var"]
                assert "count" in ready.changed_attributes()
            assert state_of(model)[:4] == before[:4] and not ready.is_changed()

    assert state_of(model) == before
    assert model.count is count and not count.any()


class Lora(nn.Linear):
    """Merges in eval() as published LoRA layers do: in place, so that taking it off again rounds."""

    def __init__(self, by_data: bool) -> None:
        super().__init__(8, 8)
        self.by_data, self.merged = by_data, False
        self.weight.requires_grad = False
        self.a, self.b = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.randn(8, 2))

    def train(self, mode: bool = True) -> "Lora":
        super().train(mode)
        if mode == self.merged:
            sign = -1 if mode else 1
            if self.by_data:
                self.weight.data = self.weight.data + sign * self.b.data @ self.a.data
            else:
                with torch.no_grad():
                    self.weight.add_(self.b @ self.a, alpha=sign)
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.by_data:
            y = x @ self.weight.T + self.bias  # the exporter folds the transpose: a view of the weight's memory
        else:
            y = nn.functional.linear(x, self.weight, self.bias)
        return y if self.merged else y + x @ self.a.T @ self.b.T


class Caches(Base):
    """Keeps a matrix for eval mode, which train() drops."""

    def __init__(self, at_eval: bool) -> None:
        super().__init__()
        self.at_eval, self.weight = at_eval, nn.Parameter(torch.randn(8, 8))
        self.cache: Tensor | None = None

    def train(self, mode: bool = True) -> "Caches":
        super().train(mode)
        self.cache = self.weight.detach().tanh() if self.at_eval and not mode else None
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x @ self.weight.tanh()
        if self.cache is None:
            self.cache = self.weight.detach().tanh()
        y: Tensor = self.layer(x @ self.cache)
        return y


class AlwaysEval(nn.BatchNorm1d):
    def train(self, mode: bool = True) -> "AlwaysEval":
        super().train(False)
        return self


@pytest.mark.slow
def test_a_model_in_training_is_exported_right_after_each_step(tmp_path: Path) -> None:
    """Layers that merge in eval(), caches of eval mode, and frozen layers of statistics; the optimizer still knows the
    parameters, which have the same bits."""
    torch.manual_seed(0)
    model = nn.Sequential(
        Lora(by_data=False), Caches(at_eval=True), AlwaysEval(8), Lora(by_data=True), Caches(at_eval=False)
    )
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    for training in (True, False):
        model.train()(X).square().sum().backward()
        optimizer.step()
        model.train(training)
        expected, before, gradient = first_answer(model), state_of(model), model[0].a.grad

        export(model, X, tmp_path / "m.onnx")

        assert state_of(model) == before
        assert close(run(tmp_path / "m.onnx")[0], expected)
        assert model[0].a.grad is gradient and model[0].a in optimizer.state and not model[0].weight.requires_grad
        assert not training or (model[1].cache is None and not model[3].merged)
        optimizer.zero_grad()
    model.train()(X).sum().backward()
    assert all(layer.a.grad.abs().sum() > 0 for layer in (model[0], model[3]))


@pytest.mark.parametrize("by_data", [False, True], ids=["in-place", "data"])
def test_merged_weights_are_taken_off_bit_for_bit(by_data: bool) -> None:
    """Where a subtraction would round: the test's own model does."""
    model = nn.Sequential(Lora(by_data))
    before, weight = state_of(model), model[0].weight.clone()

    with as_given(model):
        merged = model[0].weight.clone()

    assert state_of(model) == before and not torch.equal(merged, weight)
    model.eval().train()
    assert not torch.equal(model[0].weight, weight)


def test_modes_are_put_back_one_by_one() -> None:
    """A frozen BatchNorm in a training model, one that refuses to train, and a training layer in a frozen part."""
    model = nn.Sequential(
        nn.Linear(8, 8), nn.BatchNorm1d(8), AlwaysEval(8), nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    )
    model.train()
    model[1].eval()
    model[3].eval()
    model[3][1].train()
    before = state_of(model)
    assert [module.training for module in model.modules()] == [True, True, False, False, False, False, True]

    with as_given(model):
        assert not any(module.training for module in model.modules())

    assert state_of(model) == before


def test_train_is_called_from_the_root_down() -> None:
    """Modules that keep more than attributes see the same calls as from the user."""
    calls = []

    class Notes(nn.Sequential):
        def train(self, mode: bool = True) -> "Notes":
            calls.append((len(self), mode))
            return super().train(mode)

    model = Notes(Notes(nn.ReLU(), nn.ReLU()), nn.ReLU(), nn.ReLU()).train()
    model[0].eval()
    calls.clear()

    with as_given(model):
        assert not any(module.training for module in model.modules())

    assert calls == [(3, False), (2, False), (3, True), (2, True), (2, False)]


class Interrupted(Counts):
    def forward(self, x: Tensor) -> Tensor:
        super().forward(x)
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (Interrupted, KeyboardInterrupt),
        (models.ForwardRaises, ExportError),
        pytest.param(models.OtherInTheFile, CheckFailed, marks=pytest.mark.slow),
    ],
)
def test_the_model_is_put_back_when_export_fails(
    tmp_path: Path, make: Callable[[], nn.Module], error: type[BaseException]
) -> None:
    model = nn.Sequential(Counts(), Lora(by_data=True), make()).train()
    before = state_of(model)

    with pytest.raises(error):
        export(model, X, tmp_path / "m.onnx")

    assert state_of(model) == before


class Draws(Base):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(3), torch.rand(3, generator=self.generator)
        y: Tensor = self.layer(x)
        return y


def test_random_numbers_and_modes_of_the_caller_stay() -> None:
    model = Draws()
    torch.manual_seed(5)
    state, own = torch.get_rng_state(), model.generator.get_state()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        with as_given(model) as given, given.run():
            model(X)
            assert not torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()

    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.generator.get_state(), own)


class Autocasts(Base):
    def __init__(self, dtype: torch.dtype, enabled: bool, device: str = "cpu") -> None:
        super().__init__()
        self.dtype, self.enabled, self.device = dtype, enabled, device

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(self.device, dtype=self.dtype, enabled=self.enabled):
            y: Tensor = self.layer(x) @ torch.ones(8, 8).tril()
            return y


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_in_forward_is_refused_by_its_name(tmp_path: Path, dtype: torch.dtype) -> None:
    with pytest.raises(ExportError, match=rf"enters torch\.autocast\('cpu', {dtype}\).*enabled=False"):
        export(Autocasts(dtype, True), X, tmp_path / "m.onnx")


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_autocast_around_export_is_left_out(tmp_path: Path, dtype: torch.dtype) -> None:
    """And layers inside an autocast that is off keep their names."""
    model = nn.Sequential(nn.Linear(8, 8), Autocasts(dtype, False), nn.LayerNorm(8))
    expected = first_answer(model)

    with torch.autocast("cpu", dtype=dtype):
        report = export(model, X, tmp_path / "m.onnx")
        assert verify(tmp_path / "m.onnx", model, X).holds

    assert report.verified is not None and report.verified.holds and report.layers == ("1.layer",)
    [actual] = run(tmp_path / "m.onnx")
    assert actual.dtype.name == "float32" and close(actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_export_inside_other_grad_modes(tmp_path: Path, mode: Callable[[], Any]) -> None:
    outside = Counts()
    with mode():
        inside = Counts()
        for model in (outside, inside):
            before = state_of(model)
            export(model, X, tmp_path / "m.onnx")
            assert state_of(model) == before
            assert close(run(tmp_path / "m.onnx")[0], first_answer(model))
    outside(X).sum().backward()


class Holds(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer, self.last = layer, CirculantLinear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.layer(x))
        return y


def test_scripted_submodules_are_refused_by_their_name(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError,
        match=r"submodule layer is compiled by torch\.jit\.script.*Replace it by the "
        r"Python module",
    ):
        export(Holds(torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.ReLU()))), X, tmp_path / "m.onnx")


@pytest.mark.slow
def test_traced_submodules_export(tmp_path: Path) -> None:
    model = Holds(torch.jit.trace(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), X)).train()

    export(model, X, tmp_path / "m.onnx")

    assert close(run(tmp_path / "m.onnx")[0], first_answer(model)) and model.training


def test_a_scripted_module_keeps_its_state() -> None:
    scripted = torch.jit.script(CountsForScript())
    steps, total = scripted.steps, scripted.total

    with as_given(nn.Sequential(scripted)) as given:
        for _ in range(2):
            with given.run() as before:
                assert scripted(X)[0, 0] == X[0, 0]
                assert before.is_changed()

    assert scripted.steps is steps and steps == 0 and scripted.total is total and total == 0


class CountsForScript(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + 1
        self.total += 1
        return x * self.steps


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: nn.Linear(8, 8, device="meta"), "^weight of Linear is on the meta device and has no values"),
        (lambda: nn.Sequential(nn.ReLU(), nn.Linear(8, 8, device="meta")), "^1.weight of Sequential"),
        (lambda: nn.Sequential(nn.LazyLinear(8)), "^0.weight of Sequential is a lazy parameter"),
    ],
    ids=["meta", "part-on-meta", "lazy"],
)
def test_models_without_values(tmp_path: Path, make: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        export(make(), X, tmp_path / "m.onnx")


def test_a_frozen_kernel_without_values_exports_and_stays_without(tmp_path: Path) -> None:
    """Its first run makes it from the seed."""
    with torch.device("meta"):
        model = nn.Sequential(CirculantLinear(8, 8, bias=False, frozen=True, seed=4))
    before = state_of(model)

    export(model, X, tmp_path / "m.onnx")

    assert state_of(model) == before and model[0].kernel.is_meta
    dense = CirculantLinear(8, 8, bias=False, frozen=True, seed=4).dense()
    assert close(run(tmp_path / "m.onnx")[0], X @ dense.T)


@pytest.mark.slow
def test_shared_parameters_hooks_and_frozen_ones(tmp_path: Path) -> None:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8).requires_grad_(False)
    second.weight = first.weight
    model = nn.DataParallel(nn.Sequential(first, second, PRPLinear(8, 8)))
    first.register_forward_hook(lambda _module, _inputs, output: output * 2)
    model.register_forward_pre_hook(lambda _module, inputs: (inputs[0] + 1,))
    model(X).sum().backward()
    before, expected = state_of(model), first_answer(model)

    export(model, X, tmp_path / "m.onnx")

    assert state_of(model) == before and second.weight is first.weight
    assert len(first._forward_hooks) == len(model._forward_pre_hooks) == 1
    assert close(run(tmp_path / "m.onnx")[0], expected)


def test_a_model_whose_mode_cannot_be_set(tmp_path: Path) -> None:
    class Stays(Base):
        def train(self, mode: bool = True) -> "Stays":
            raise RuntimeError("not now")

    with pytest.raises(ExportError, match=r"^Stays.eval\(\) raised RuntimeError: not now\."):
        export(Stays(), X, tmp_path / "m.onnx")


def test_compiled_submodules_stay_compiled_and_torch_cond_can_be_traced() -> None:
    """torch.compile gives up for good on code that it first meets under a dispatch mode."""
    compiled = []

    def backend(graph: Any, _inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    model = nn.Sequential(torch.compile(nn.Linear(8, 8), backend=backend), ChoosesHalf())
    with as_given(model) as given:
        with given.run():
            model(X)
        assert not compiled
        torch.export.export(model[1], (X,), strict=False)
    model[0](X)
    assert len(compiled) == 1


class ChoosesHalf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.cond(x.sum() > 0, lambda x: x / 2, lambda x: x * 2, (x,))
        return y


def test_gradients_of_an_unfinished_step_survive() -> None:
    """Export between forward and backward: no saved tensor was written."""
    model = nn.Sequential(CirculantLinear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))
    loss = model(X).square().sum()

    with as_given(model) as given, given.run():
        model(X)

    loss.backward()


def test_a_snapshot_copies_only_what_is_written() -> None:
    model = nn.Sequential(nn.Linear(8, 8), Lora(by_data=False)).train()
    snapshot = Snapshot(model)

    with snapshot.watch():
        model.eval()

    kept = {name for name, tensor in model.named_parameters() if snapshot.will_stay(tensor)}
    assert kept == {"0.weight", "0.bias", "1.bias", "1.a", "1.b"}
    snapshot.restore()
    assert model[1].training and not model[1].merged


def test_a_restored_tensor_has_a_new_version() -> None:
    """Caches that are keyed by a tensor's version must not take the restored values for those of the run."""
    model = Counts()
    with as_given(model) as given:
        with given.run():
            model(X)
            during = model.steps._version
        assert model.steps == 0 and model.steps._version > during
