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
from edgefc.export.divergence import first_layer_off
from edgefc.export.snapshot import Snapshot
from edgefc.export.state import as_given
from edgefc.export.tracing import trace
from tests import cli_models as models

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
    (HoldsAnObject, "HoldsAnObject changes objects that it holds:"),
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
def test_the_file_answers_as_a_first_run(tmp_path: Path, make: Callable[[], nn.Module], said: str) -> None:
    """Every time, with the model's own output only; verify agrees, and the model is as it was, mode and all."""
    model = make().train()
    expected, before = first_answer(model), state_of(model)
    notes: list[str] = []

    trace(model, (X,), {}, dynamic_batch=True, opset=20, notes=notes)
    report = export(model, X, tmp_path / "m.onnx")

    assert state_of(model) == before
    [actual] = run(tmp_path / "m.onnx")
    assert close(actual, expected)
    assert report.verified is not None and report.verified.holds
    assert verify(tmp_path / "m.onnx", model, X).holds
    assert state_of(model) == before
    assert len(notes) == 1 and said in notes[0], notes
    assert isinstance(getattr(model, "seen", []), list) and not getattr(model, "seen", [])


def test_state_that_was_there_is_kept(tmp_path: Path) -> None:
    """A model that has run before: its state is the file's, not the initial one."""
    model = Counts()
    model(X)
    model(X)

    export(model, X, tmp_path / "m.onnx")

    assert model.steps == 2
    assert close(run(tmp_path / "m.onnx")[0], model.layer(X).detach() * 3)


def test_a_parameter_written_without_a_trace(tmp_path: Path) -> None:
    """torch.export cannot follow a write through .data; whatever becomes of the export, the weight is as it was."""
    model = WritesItsWeight()
    before = state_of(model)

    with pytest.raises((CheckFailed, ExportError)):
        export(model, X, tmp_path / "m.onnx")

    assert state_of(model) == before


def test_an_embedding_that_renormalises_its_table(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(10, 8, max_norm=0.1), nn.Linear(8, 8))
    ids, before = torch.arange(6).reshape(2, 3), state_of(model)
    expected = first_answer(model, ids)

    export(model, ids, tmp_path / "m.onnx")

    assert state_of(model) == before
    assert close(run(tmp_path / "m.onnx", ids)[0], expected)


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
        y = nn.functional.linear(x, self.weight, self.bias)
        return y if self.merged else y + x @ self.a.T @ self.b.T


@pytest.mark.parametrize("by_data", [False, True], ids=["in-place", "data"])
def test_lora_layers_are_merged_in_the_file_and_not_in_the_model(tmp_path: Path, by_data: bool) -> None:
    """Also after a step of the optimizer, which still knows the parameters, and where the model is given merged."""
    torch.manual_seed(0)
    model = nn.Sequential(CirculantLinear(8, 8), Lora(by_data))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    for training in (True, True, False):
        model.train()(X).square().sum().backward()
        optimizer.step()
        model.train(training)
        expected, before, gradient = first_answer(model), state_of(model), model[1].a.grad

        export(model, X, tmp_path / "m.onnx")

        assert state_of(model) == before
        assert close(run(tmp_path / "m.onnx")[0], expected)
        assert model[1].a.grad is gradient and model[1].a in optimizer.state and not model[1].weight.requires_grad
        optimizer.zero_grad()
    model.train()(X).sum().backward()
    assert model[1].a.grad.abs().sum() > 0


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


@pytest.mark.parametrize("at_eval", [True, False], ids=["at-eval", "at-the-first-run"])
def test_a_cache_of_eval_mode_is_right_after_each_step(tmp_path: Path, at_eval: bool) -> None:
    model = Caches(at_eval)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):
        export(model, X, tmp_path / "m.onnx")

        assert model.training and model.cache is None
        exact = model.layer.dense().double() @ (X.double() @ model.weight.detach().double().tanh()).T
        assert close(run(tmp_path / "m.onnx")[0], (exact.T + model.layer.bias.double()).float())
        model(X).sum().backward()
        optimizer.step()


class AlwaysEval(nn.BatchNorm1d):
    def train(self, mode: bool = True) -> "AlwaysEval":
        super().train(False)
        return self


def test_modes_are_put_back_one_by_one(tmp_path: Path) -> None:
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

    export(model, X, tmp_path / "m.onnx")

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
    [(Interrupted, KeyboardInterrupt), (models.ForwardRaises, ExportError), (models.OtherInTheFile, CheckFailed)],
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
        if not torch.onnx.is_in_onnx_export():
            torch.rand(3), torch.rand(3, generator=self.generator)
        y: Tensor = self.layer(x)
        return y


def test_random_numbers_modes_and_autocast_of_the_caller_stay(tmp_path: Path) -> None:
    model = Draws()
    torch.manual_seed(5)
    state, own = torch.get_rng_state(), model.generator.get_state()

    with torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
        export(model, X, tmp_path / "m.onnx")
        assert torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()

    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.generator.get_state(), own)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_around_export_is_left_out(tmp_path: Path, dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(8, 8), CirculantLinear(8, 8), nn.LayerNorm(8))
    expected = first_answer(model)

    with torch.autocast("cpu", dtype=dtype):
        report = export(model, X, tmp_path / "m.onnx")
        assert verify(tmp_path / "m.onnx", model, X).holds

    assert report.verified is not None and report.verified.holds
    [actual] = run(tmp_path / "m.onnx")
    assert actual.dtype.name == "float32" and close(actual, expected)


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
    with pytest.raises(ExportError, match=rf"computes under torch\.autocast\('cpu', {dtype}\).*enabled=False"):
        export(Autocasts(dtype, True), X, tmp_path / "m.onnx")

    model = Autocasts(dtype, False)
    assert export(model, X, tmp_path / "m.onnx").layers == ("layer",)
    assert close(run(tmp_path / "m.onnx")[0], first_answer(model))


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
    with pytest.raises(ExportError, match=r"submodule layer is compiled by torch\.jit\.script.*Put the Python module"):
        export(Holds(torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.ReLU()))), X, tmp_path / "m.onnx")


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


def test_the_search_for_a_layer_starts_from_the_same_state(tmp_path: Path) -> None:
    """Its own run neither changes the model nor sees what earlier runs left."""
    model = nn.Sequential(CountsAssigned(), nn.Linear(8, 8)).train()
    export(model, X, tmp_path / "m.onnx")
    before = state_of(model)

    assert first_layer_off(tmp_path / "m.onnx", model, (X,), {}, 1e-9) is None

    assert state_of(model) == before


def test_gradients_of_an_unfinished_step_survive(tmp_path: Path) -> None:
    """Export between forward and backward: no saved tensor was written."""
    model = nn.Sequential(CirculantLinear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))
    loss = model(X).square().sum()

    export(model, X, tmp_path / "m.onnx")

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
