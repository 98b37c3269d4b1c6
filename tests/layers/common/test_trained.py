"""What every from_linear takes: torch.nn.Linear with its computed weights, and GPT-2's Conv1D."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrizations, prune

import edgefc
from edgefc.errors import UsageError
from edgefc.testing import assert_close

MAKES: dict[str, Callable[[Any], Any]] = {
    "circulant": lambda given: edgefc.CirculantLinear.from_linear(given, seed=3),
    "prp": lambda given: edgefc.PRPLinear.from_linear(given, seed=3, rank=2),
    "eugen": lambda given: edgefc.EUGenLinear.from_linear(given, features=5, seed=3),
    "polynomial": lambda given: edgefc.EUGenLinear.from_polynomial(given, (0.5, 1.0), features=5, seed=3),
    "bilinear": lambda given: edgefc.BilinearLinear.from_linear(given, terms=2),
    "low rank": lambda given: edgefc.LowRankLinear.from_linear(given, rank=2),
    "monarch": lambda given: edgefc.MonarchLinear.from_linear(given, blocks=2),
    "first": lambda given: edgefc.TiedFFN.from_linears(given, nn.Linear(7, 6).requires_grad_(False), "relu"),
    "second": lambda given: edgefc.TiedFFN.from_linears(nn.Linear(7, 6), given, "relu"),
    "merge": lambda given: edgefc.EUGenLinear(5, 6, features=4, seed=3).merge(given),
}
every_way = pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in MAKES.items()])


class Conv1D(nn.Module):
    """As transformers has it."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], self.nf)


def copied(conv: nn.Module) -> nn.Linear:
    linear = nn.Linear(conv.nx, conv.nf)  # type: ignore[arg-type]
    linear.load_state_dict({"weight": conv.weight.detach().T, "bias": conv.bias.detach()})  # type: ignore[operator, union-attr]
    return linear


def assert_same(result: Any, expected: Any) -> None:
    assert type(result) is type(expected)
    for (name, value), other in zip(result.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


@every_way
def test_conv1d_gives_what_the_transposed_linear_layer_gives(
    make: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conv1D, "__module__", "transformers.pytorch_utils")
    torch.manual_seed(0)
    conv, seed = Conv1D(7, 6), torch.seed()
    layers = []
    for given in (conv, copied(conv)):
        torch.manual_seed(seed)
        layers.append(make(given))
    assert_same(*layers)


def test_conv1d_of_transformers() -> None:
    conv = pytest.importorskip("transformers.pytorch_utils").Conv1D(7, 6)
    x = torch.randn(4, 6)
    assert_close(edgefc.PRPLinear.from_linear(conv, rank=6)(x), conv(x), nmse=1e-10, what="rank 6")


@every_way
def test_others_of_that_name_are_refused(make: Callable[[Any], Any]) -> None:
    with pytest.raises(UsageError, match=r"got Conv1D\. Pass the trained layer itself\.$"):
        make(Conv1D(7, 6))


@pytest.mark.parametrize("make", [pytest.param(MAKES[name], id=name) for name in ("circulant", "bilinear", "eugen")])
def test_computed_weights_count_as_they_are_now(make: Callable[[Any], Any]) -> None:
    """Also those of hooks, which are stale after an optimiser's step, and without a step of a power iteration."""
    torch.manual_seed(0)
    computed: list[Any] = [parametrizations.weight_norm(nn.Linear(6, 7)), nn.Linear(6, 7), nn.Linear(6, 7)]
    prune.random_unstructured(computed[1], "weight", amount=0.5)  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(computed[2])
    for given in computed:
        with torch.no_grad():
            next(p for name, p in given.named_parameters() if name != "bias").mul_(3)
        plain = nn.Linear(6, 7)
        result = make(given)
        given(torch.zeros(1, 6))  # which refreshes what hooks compute
        plain.load_state_dict({"weight": given.weight.detach(), "bias": given.bias.detach()})
        assert_same(result, make(plain))
        assert all(parameter.requires_grad for parameter in result.parameters())


class Lora(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.sum()


class Named(nn.Linear):
    """A subclass with the forward of nn.Linear."""


def patched() -> nn.Linear:
    linear = nn.Linear(6, 7)
    linear.forward = lambda x: x  # type: ignore[method-assign]
    return linear


REFUSED = {
    "own forward": (Lora(6, 7), "with an overridden forward. Merge it into a torch.nn.Linear first."),
    "patched": (patched(), "with an overridden forward. Merge it into a torch.nn.Linear first."),
    "meta": (nn.Linear(6, 7, device="meta"), "on the meta device, which stores no values. Load its weights first."),
    "lazy": (nn.LazyLinear(7), "without a weight. Run it once, so that torch creates the weight."),
}


@every_way
@pytest.mark.parametrize("case", REFUSED)
def test_linear_layers_that_compute_something_else_are_refused(make: Callable[[Any], Any], case: str) -> None:
    given, said = REFUSED[case]
    with pytest.raises(UsageError, match=rf"^\w+ can be made from a torch\.nn\.Linear, .*{re.escape(said)}$"):
        make(given)


@every_way
@pytest.mark.parametrize("kind", [NonDynamicallyQuantizableLinear, Named])
def test_subclasses_that_keep_the_forward_are_taken(make: Callable[[Any], Any], kind: type[nn.Linear]) -> None:
    torch.manual_seed(0)
    make(kind(6, 7))


@pytest.mark.parametrize("name", ["circulant", "prp", "eugen", "bilinear", "first"])
def test_dtype_mode_and_requires_grad_are_kept(name: str) -> None:
    given = nn.Linear(6, 7, dtype=torch.float64).eval()
    given.weight.requires_grad_(False)
    layer = MAKES[name](given)
    assert not layer.training
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.float64}
    learns = {key for key, parameter in layer.named_parameters() if parameter.requires_grad}
    assert learns == ({"bias"} if name != "first" else set())
    given.requires_grad_(True).train()
    layer = MAKES[name](given)
    assert layer.training
    assert all(parameter.requires_grad for parameter in layer.parameters())
