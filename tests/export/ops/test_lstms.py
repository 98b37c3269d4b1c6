"""Both LSTMs exported: the bodies on two evaluators against the steps in numpy, in float64.

What is one layer's own is in test_bilinear_lstm.py and test_circulant_lstm.py.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import pytest
import torch

from edgefc import BilinearLSTM, CirculantLSTM
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import lstm_models as models
from tests.support.evaluators import both

ROUNDING, HALF_ROUNDING = 1e-12, 1e-5
SEQUENCES = ("steps", "batch")
LAYERS: dict[str, Any] = {"bilinear": BilinearLSTM, "circulant": CirculantLSTM}


class Case(NamedTuple):
    kind: str
    n: int
    h: int
    options: tuple[tuple[str, Any], ...] = ()

    def make(self, **more: Any) -> Any:
        return models.randomise(LAYERS[self.kind](self.n, self.h, **dict(self.options), **more))


def case(name: str, kind: str, n: int, h: int, **options: Any) -> Any:
    return pytest.param(Case(kind, n, h, tuple(options.items())), id=f"{kind}-{name}")


CASES = [
    case("one-number", "bilinear", 1, 1),
    case("composite", "bilinear", 6, 8),
    case("primes-padded", "bilinear", 7, 5),
    case("primes-padded-two-terms", "bilinear", 5, 13, terms=2),
    case("three-terms", "bilinear", 12, 4, terms=3),
    case("hard-sigmoid", "bilinear", 6, 8, gates="keras"),
    case("hard-sigmoid-padded-no-bias", "bilinear", 7, 13, gates="keras", bias=False),
    case("one-number", "circulant", 1, 1),
    case("one-block", "circulant", 6, 8),
    case("primes", "circulant", 7, 5),
    case("blocks-cut-both-ways", "circulant", 5, 13, block=4),
    case("blocks-of-one", "circulant", 12, 4, block=1),
    case("last-block-across-cut", "circulant", 24, 16, block=16, seed=2**64 - 1),
    case("hard-sigmoid", "circulant", 6, 8, gates="keras"),
    case("hard-sigmoid-cut-no-bias", "circulant", 7, 13, block=6, gates="keras", bias=False),
]
LARGE = [
    case("square", "bilinear", 384, 384),
    case("prime-inputs", "bilinear", 61, 768, gates="keras"),
    case("prime-units", "bilinear", 768, 97, terms=2),
    case("square", "circulant", 384, 384),
    case("prime-inputs", "circulant", 61, 768, block=16, gates="keras"),
    case("prime-units", "circulant", 768, 97),
]
kinds = pytest.mark.parametrize("kind", LAYERS)


@cache
def exported(which: Case) -> tuple[Any, ir.Model]:
    """The layer and its model for sequences of every shape: made once for the tests that do not change the layer."""
    lstm = which.make()
    return lstm, layer_model(lstm, which.n, leading=SEQUENCES)


def wanted(lstm: Any, x: Any, state: Any = None) -> Any:
    """y (S, B, h), h_n and c_n (B, h) of a stack of one."""
    y, h, c = models.expected(lstm, x, state)
    return y, h[0], c[0]


@both
@pytest.mark.parametrize("which", CASES)
def test_any_steps_and_any_batch(which: Case, run: Any) -> None:
    lstm, model = exported(which)
    for steps, batch in ((4, 3), (1, 2), (3, 1)):
        x = models.inputs(steps, batch, which.n, dtype=np.float32)
        models.check_answers(run(model, x), wanted(lstm, x), ROUNDING, f"{steps} steps, batch {batch}")


@both
@pytest.mark.parametrize("which", CASES)
def test_in_float64_only_rounding_is_left(which: Case, run: Any) -> None:
    """Ten more digits, so that an error of method could not pass for rounding; first states other than zero."""
    lstm = which.make(dtype=torch.float64)
    started, x = models.Started(lstm, 2), models.inputs(4, 2, which.n)
    state = tuple(part.numpy() for part in started.state)
    answers = run(layer_model(started, which.n, leading=SEQUENCES), x)
    models.check_answers(answers, wanted(lstm, x, state), 1e-26, "float64")


@both
@kinds
def test_float16(kind: str, run: Any) -> None:
    lstm = Case(kind, 12, 13).make(dtype=torch.float16)
    x = models.inputs(4, 3, 12, dtype=np.float16)
    answers = run(layer_model(lstm, 12, leading=SEQUENCES), x)
    assert all(answer.dtype == np.float16 for answer in answers)
    models.check_answers(answers, wanted(lstm, x), HALF_ROUNDING, "float16")


@pytest.mark.parametrize("which", LARGE)
def test_large_sizes_in_onnxruntime(which: Case) -> None:
    lstm, x = which.make(), models.inputs(3, 2, which.n, dtype=np.float32)
    answers = run_onnxruntime(layer_model(lstm, which.n, leading=SEQUENCES), x)
    models.check_answers(answers, wanted(lstm, x), ROUNDING, "large")


@pytest.mark.parametrize("opset", range(18, 24))
@kinds
def test_every_opset(kind: str, opset: int) -> None:
    lstm, x = Case(kind, 7, 13).make(), models.inputs(3, 2, 7, dtype=np.float32)
    model = layer_model(lstm, 7, leading=SEQUENCES, opset=opset)
    models.check_answers(run_onnxruntime(model, x), wanted(lstm, x), ROUNDING, f"opset {opset}")


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
@pytest.mark.parametrize("gates", ["torch", "keras"])
@kinds
def test_the_runtime_may_fold_or_not(kind: str, gates: str, threads: int, optimise: bool) -> None:
    lstm, model = exported(Case(kind, 7, 13, (("gates", gates),)))
    x = models.inputs(3, 2, 7, dtype=np.float32)
    answers = run_onnxruntime(model, x, threads=threads, optimise=optimise)
    models.check_answers(answers, wanted(lstm, x), ROUNDING, gates)


@pytest.mark.slow
@kinds
def test_a_stack_in_a_model_exports_with_an_open_batch(kind: str, tmp_path: Path) -> None:
    models.check_tagger_exports(Case(kind, 6, 8).make(num_layers=2, batch_first=True), tmp_path)


@kinds
def test_reference_takes_an_empty_batch(kind: str) -> None:
    answers = run_reference(exported(Case(kind, 6, 8))[1], models.inputs(3, 0, 6, dtype=np.float32))
    assert [answer.shape for answer in answers] == [(3, 0, 8), (0, 8), (0, 8)]


@both
@kinds
def test_no_steps_are_refused(kind: str, run: Any) -> None:
    """As by torch.nn.LSTM."""
    with pytest.raises(Exception, match=r"(?i)scan|MatMul"):
        run(exported(Case(kind, 6, 8))[1], models.inputs(0, 2, 6, dtype=np.float32))


@both
@kinds
def test_swapped_gates_are_noticed(kind: str, run: Any) -> None:
    """The comparisons can fail."""
    lstm, x = Case(kind, 6, 8).make(), models.inputs(4, 2, 6, dtype=np.float32)
    model = layer_model(lstm, 6, leading=SEQUENCES)
    lstm.layers[0].bias.data = lstm.layers[0].bias.data[[0, 2, 1, 3]]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(model, x)[0], wanted(lstm, x)[0], nmse=1e-7, what="swapped")
