"""What no layer takes, whatever its family: told in one sentence, at once, and never by a traceback from within."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgefc
from edgefc.catalogue import Entry, entries
from edgefc.errors import ShapeError, UsageError
from edgefc.layers.eugen.fit import fit_closed_form

MADE_FROM_LINEAR = {
    type(layer) for entry in entries() if entry.linear and hasattr(layer := entry.make(12), "from_linear")
}
LINEARS = [edgefc.BilinearLinear, edgefc.CirculantLinear, edgefc.EUGenLinear, edgefc.PRPLinear]
CONVOLUTIONS = [edgefc.BilinearConv2d, edgefc.CirculantConv2d, edgefc.PRPConv2d]
EMBEDDINGS = [edgefc.BilinearEmbedding, edgefc.PRPEmbedding]
LSTMS = [edgefc.BilinearLSTM, edgefc.CirculantLSTM]

MADE_FROM = [
    *[
        pytest.param(family, family.from_linear, nn.Conv2d(8, 6, 1), "Linear", id=family.__name__)
        for family in sorted(MADE_FROM_LINEAR, key=lambda family: family.__name__)
    ],
    *[
        pytest.param(family, family.from_conv, nn.ConvTranspose2d(8, 6, 3), "Conv2d", id=family.__name__)
        for family in CONVOLUTIONS
    ],
    *[
        pytest.param(family, family.from_embedding, nn.Linear(8, 6), "Embedding", id=family.__name__)
        for family in EMBEDDINGS
    ],
    *[pytest.param(family, family.from_lstm, nn.GRU(8, 8), "LSTM", id=family.__name__) for family in LSTMS],
    pytest.param(
        edgefc.TiedFFN,
        lambda given: edgefc.TiedFFN.from_linears(nn.Linear(8, 6), given),
        nn.Conv1d(6, 8, 1),
        "Linear",
        id="TiedFFN",
    ),
    pytest.param(
        edgefc.TiedAttention,
        edgefc.TiedAttention.from_attention,
        nn.Linear(8, 8),
        "MultiheadAttention",
        id="TiedAttention",
    ),
    pytest.param(
        edgefc.StructuredAttention,
        lambda given: edgefc.StructuredAttention.from_attention(given, edgefc.PRPLinear.from_linear),
        nn.Linear(8, 8),
        "MultiheadAttention",
        id="StructuredAttention",
    ),
    pytest.param(edgefc.EUGenLinear, edgefc.EUGenLinear(8, 6).merge, nn.Conv2d(6, 4, 1), "Linear", id="merge"),
]


@pytest.mark.parametrize(("family", "make", "given", "kind"), MADE_FROM)
def test_made_from_another_kind_of_layer(
    family: type[nn.Module], make: Callable[[Any], Any], given: nn.Module, kind: str
) -> None:
    said = (
        f"{family.__name__} can be made from a torch.nn.{kind}, got {type(given).__name__}. "
        "Pass the trained layer itself."
    )
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        make(given)


@pytest.mark.parametrize("size", [np.array([3]), torch.tensor(2.5), torch.tensor([1, 2]), np.float64(3), True, 2**70])
@pytest.mark.parametrize("family", [*LINEARS, *EMBEDDINGS, *LSTMS, edgefc.TiedFFN])
def test_sizes_that_are_no_whole_numbers(family: Any, size: Any) -> None:
    with pytest.raises(ShapeError, match=r"Choose integers from 1 to 2\*\*31 - 1\.$"):
        family(size, 8)


@pytest.mark.parametrize("family", [*LINEARS, edgefc.TiedFFN])
@pytest.mark.parametrize("size", [np.int64(8), np.array(8), torch.tensor(8)])
def test_whole_numbers_of_any_type_are_sizes(family: Any, size: Any) -> None:
    assert family(size, size)(torch.zeros(2, 8)).shape == (2, 8)


@pytest.mark.parametrize("terms", [2**31, 2**70])
@pytest.mark.parametrize("family", [edgefc.BilinearLinear, edgefc.BilinearEmbedding, edgefc.BilinearLSTM])
def test_more_terms_than_a_tensor_has(family: Any, terms: int) -> None:
    said = f"{family.__name__} does not support terms={terms}. Choose an integer from 1 to 2**31 - 1."
    with pytest.raises(ShapeError, match=f"^{re.escape(said)}$"):
        family(8, 8, terms=terms)


@pytest.mark.parametrize("argument", ["kernel_size", "stride", "padding"])
@pytest.mark.parametrize("family", CONVOLUTIONS)
def test_windows_beyond_all_images(family: Any, argument: str) -> None:
    said = f"{family.__name__} does not support {argument}={2**70}. Give an integer from "
    with pytest.raises(ShapeError, match=f"^{re.escape(said)}"):
        family(8, 6, **{"kernel_size": 3, argument: 2**70})


@pytest.mark.parametrize("padding_idx", [True, False])
@pytest.mark.parametrize("family", EMBEDDINGS)
def test_padding_that_is_a_truth_value(family: Any, padding_idx: bool) -> None:
    said = f"{family.__name__} has 7 entries, got padding_idx={padding_idx}. Choose an integer from 0 to 6, or None."
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        family(7, 4, padding_idx=padding_idx)


@pytest.mark.parametrize("dropout", [-1, 2.0, float("nan"), "a", None, [0.5], True])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("TiedFFN", lambda dropout: edgefc.TiedFFN(8, 6, dropout=dropout)),
        ("TiedAttention", lambda dropout: edgefc.TiedAttention(8, 2, dropout)),
        ("StructuredAttention", lambda dropout: edgefc.StructuredAttention(8, 2, edgefc.CirculantLinear, dropout)),
        ("BilinearLSTM", lambda dropout: edgefc.BilinearLSTM(8, 8, dropout=dropout)),
    ],
)
def test_dropouts_that_are_no_probabilities(name: str, make: Callable[[Any], Any], dropout: Any) -> None:
    said = f"{name} does not support dropout={dropout!r}. Choose a probability from 0 to 1."
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        make(dropout)


@pytest.mark.parametrize("name", [["relu"], None, 3, np.array([1])])
def test_names_that_are_no_words(name: Any) -> None:
    for make in (lambda: edgefc.TiedFFN(8, 6, name), lambda: edgefc.EUGenLinear(8, 6, activation=name)):
        with pytest.raises(UsageError, match=r"^unknown activation "):
            make()
    for family in (edgefc.PRPConv2d, edgefc.EUGenLinear):
        with pytest.raises(UsageError, match=r"^unknown distribution "):
            family(8, 6, *([3] if family is edgefc.PRPConv2d else []), distribution=name)
    with pytest.raises(UsageError, match=r"^unknown distribution "):
        edgefc.PRPLinear(8, 6, distribution=name)


def test_projections_that_cannot_be_called() -> None:
    said = (
        "cannot create projections with 'CirculantLinear'. Pass a class or function that takes (in_features, "
        "out_features, "
        "bias, seed), such as CirculantLinear."
    )
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        edgefc.StructuredAttention(8, 2, "CirculantLinear")  # type: ignore[arg-type]


@pytest.mark.parametrize("family", LSTMS)
def test_first_states_that_are_not_two(family: Any) -> None:
    state = torch.zeros(1, 2, 8)
    said = f"{family.__name__} expects two initial states of shape (1, 2, 8). Pass (h_0, c_0)."
    for states in (state, (state,), (state, state, state), (None, None), (state, None)):
        with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
            family(8, 8)(torch.zeros(3, 2, 8), states)


@pytest.mark.parametrize("family", LSTMS)
def test_what_code_for_torch_lstm_asks_for(family: Any) -> None:
    layer = family(8, 8)
    layer.flatten_parameters()
    assert (layer.bidirectional, layer.proj_size) == (False, 0)


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.name) for entry in entries()])
@pytest.mark.parametrize("given", [np.zeros((2, 3, 12), np.float32), None, [[1.0]], "x"])
def test_inputs_that_are_no_tensors(entry: Entry, given: Any) -> None:
    layer = entry.make(12)
    name = type(layer).__name__
    said = f"{name} expects a torch.Tensor, got {type(given).__name__}. Convert: torch.as_tensor(x)."
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        entry.call(layer, given)


@pytest.mark.parametrize("family", [edgefc.PRPLinear, edgefc.BilinearLinear])
def test_trained_weights_that_are_not_finite(family: Any) -> None:
    linear = nn.Linear(8, 6)
    with torch.no_grad():
        linear.weight[1, 2] = float("nan")
    said = "cannot fit a weight that contains NaN or infinity. Check the weights of the trained layer."
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        family.from_linear(linear)


@pytest.mark.parametrize("batches", [torch.zeros(3, 8), (torch.zeros(3, 8), torch.zeros(3, 6))])
def test_closed_form_without_pairs(batches: Any) -> None:
    with pytest.raises(UsageError, match=r"Pass a sequence of pairs, such as \[\(x, y\)\]\.$"):
        fit_closed_form(edgefc.EUGenLinear(8, 6), batches)
