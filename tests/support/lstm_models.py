"""For the tests of the LSTMs: each layer's matrices entry by entry from the formulas, and the steps in numpy float64.

They share nothing with edgefc.layers but the seeded signs in numpy.
"""

import copy
import pickle
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc import BilinearLSTM, CirculantLSTM, generator
from edgefc.export import export
from edgefc.testing import assert_close

LSTM = BilinearLSTM | CirculantLSTM
AnyLSTM = TypeVar("AnyLSTM", BilinearLSTM, CirculantLSTM)
Array = NDArray[np.float64]
Answer = tuple[Array, Array, Array]


def array(tensor: Tensor) -> Array:
    result: Array = tensor.detach().double().numpy()
    return result


def kronecker_sum(left: Array, right: Array, inputs: int, outputs: int) -> Array:
    """sum_t L_t[i1, u1] R_t[i2, u2] for every gate, (4, outputs, inputs)."""
    width_in, width_out = right.shape[2:]
    u, i = np.indices((outputs, inputs))
    entries: Array = left[:, :, i // width_in, u // width_out] * right[:, :, i % width_in, u % width_out]
    total: Array = entries.sum(1)
    return total


def circulants(kernel: Array, signs: Array, inputs: int, outputs: int) -> Array:
    """r[(i - j) mod b] s[j] for every gate, (4, outputs, inputs)."""
    b = kernel.shape[-1]
    i, j = np.indices((outputs, inputs))
    result: Array = kernel[:, i // b, j // b, (i - j) % b] * signs
    return result


def matrices(lstm: LSTM, index: int) -> tuple[Array, Array]:
    """W (4, h, n) and R (4, h, h) of one layer of the stack."""
    layer, h = lstm.layers[index], lstm.hidden_size
    n = h if index else lstm.input_size
    if isinstance(lstm, BilinearLSTM):
        w = kronecker_sum(array(layer.left), array(layer.right), n, h)
        return w, kronecker_sum(array(layer.left_recurrent), array(layer.right_recurrent), h, h)
    signs = generator.matrix((lstm.seed + index) % 2**64, 1, n + h, "rademacher")[0].astype(np.float64)
    w = circulants(array(layer.kernel), signs[:n], n, h)
    return w, circulants(array(layer.recurrent_kernel), signs[n:], h, h)


def steps(x: Array, w: Array, r: Array, bias: Array, h: Array, c: Array, *, hard: bool) -> Answer:
    """x (S, B, n), one layer, gates i, f, g, o: y (S, B, h), and the last states (B, h)."""

    def gate(z: Array) -> Array:
        return np.clip(0.2 * z + 0.5, 0, 1) if hard else 1 / (1 + np.exp(-z))

    outputs = []
    for x_t in x:
        z_i, z_f, z_g, z_o = (x_t @ w[g].T + h @ r[g].T + bias[g] for g in range(4))
        c = gate(z_f) * c + gate(z_i) * np.tanh(z_g)
        h = gate(z_o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), h, c


def expected(lstm: LSTM, x: NDArray[Any], state: tuple[Array, Array] | None = None) -> Answer:
    """What the stack means, x (S, B, n): y (S, B, h), h_n and c_n (layers, B, h)."""
    y, hidden, cell = x.astype(np.float64), [], []
    for index, layer in enumerate(lstm.layers):
        zeros = np.zeros((x.shape[1], lstm.hidden_size))
        h0, c0 = (zeros, zeros) if state is None else (state[0][index], state[1][index])
        bias = np.zeros((4, lstm.hidden_size)) if layer.bias is None else array(layer.bias)
        y, h, c = steps(y, *matrices(lstm, index), bias, h0, c0, hard=lstm.gates == "keras")
        hidden.append(h)
        cell.append(c)
    return y, np.stack(hidden), np.stack(cell)


def torch_lstm(lstm: LSTM) -> nn.LSTM:
    """torch's LSTM with the matrices of dense(), in float64."""
    result = nn.LSTM(
        lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.has_bias, lstm.batch_first, dtype=torch.float64
    )
    result.load_state_dict(lstm.dense())
    return result


def randomise(lstm: AnyLSTM, seed: int = 0) -> AnyLSTM:
    """The LSTM with biases that are not 0 or 1, and gates that neither open nor close at this size."""
    torch.manual_seed(seed)
    for parameter in lstm.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter)
    return lstm


def inputs(*shape: int, seed: int = 0, dtype: Any = np.float64) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check_answers(actual: Any, wanted: Answer, nmse: float, what: str) -> None:
    """y, (h_n, c_n) of torch, or the list of three that an exported layer gives."""
    y, *states = actual
    h, c = states[0] if len(states) == 1 else states
    for name, value, reference in zip(("y", "h_n", "c_n"), (y, h, c), wanted, strict=True):
        assert_close(value, reference, nmse=nmse, what=f"{what}, {name}")


# ---- what every LSTM keeps


def check_like_torch(lstm: LSTM, rows: int = 3) -> None:
    """Batched, one sequence alone, with first states: as torch.nn.LSTM with the same matrices, shapes and all."""
    reference, n, layers, h = torch_lstm(lstm), lstm.input_size, lstm.num_layers, lstm.hidden_size
    shape = (rows, 4, n) if lstm.batch_first else (4, rows, n)
    x = torch.from_numpy(inputs(*shape))
    state = tuple(torch.from_numpy(inputs(layers, rows, h, seed=s)) for s in (1, 2))
    alone = tuple(part[:, 0] for part in state)
    for what, arguments in {
        "batch": (x,),
        "states": (x, state),
        "alone": (x[:, 0] if not lstm.batch_first else x[0],),
        "alone with states": (x[:, 0] if not lstm.batch_first else x[0], alone),
    }.items():
        y, (h_n, c_n) = reference(*arguments)
        check_answers(lstm(*arguments), (array(y), array(h_n), array(c_n)), 1e-24, what)


def check_packed(lstm: LSTM, lengths: list[int], *, ordered: bool) -> None:
    """Packed sequences, with first states: as torch.nn.LSTM, in and out."""
    reference, layers, h = torch_lstm(lstm), lstm.num_layers, lstm.hidden_size
    x = torch.from_numpy(inputs(max(lengths), len(lengths), lstm.input_size))
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=ordered)
    state = tuple(torch.from_numpy(inputs(layers, len(lengths), h, seed=s)) for s in (1, 2))
    for arguments in ((packed,), (packed, state)):
        (y, states), (wanted, wanted_states) = lstm(*arguments), reference(*arguments)
        assert torch.equal(y.batch_sizes, wanted.batch_sizes)
        for mine, theirs in zip(y[2:], wanted[2:], strict=True):
            assert (mine is None and theirs is None) or torch.equal(mine, theirs)
        check_answers((y.data, states), tuple(array(t) for t in (wanted.data, *wanted_states)), 1e-24, "packed")


def check_gradients(lstm: LSTM) -> None:
    """By finite differences, with respect to the input, the first states and every parameter."""
    x = torch.from_numpy(inputs(2, 2, lstm.input_size)).requires_grad_()
    names = [name for name, _ in lstm.named_parameters()]
    state = [torch.from_numpy(inputs(lstm.num_layers, 2, lstm.hidden_size, seed=s)).requires_grad_() for s in (1, 2)]

    def forward(x: Tensor, h0: Tensor, c0: Tensor, *parameters: Tensor) -> Any:
        y, (h, c) = torch.func.functional_call(lstm, dict(zip(names, parameters, strict=True)), (x, (h0, c0)))
        return y, h, c

    assert torch.autograd.gradcheck(forward, (x, *state, *lstm.parameters()), fast_mode=True)


def check_kept(lstm: LSTM, fresh: LSTM) -> None:
    """Copies, pickles and a fresh LSTM with the state dict answer alike; half precision and autocast stay near."""
    x = torch.from_numpy(inputs(4, 3, lstm.input_size, dtype=np.float32))
    y = randomise(lstm)(x)[0].detach()
    fresh.load_state_dict(lstm.state_dict())
    for name, other in {
        "state dict": fresh, "copy": copy.deepcopy(lstm), "pickle": pickle.loads(pickle.dumps(lstm))
    }.items():  # fmt: skip
        assert torch.equal(other(x)[0], y), name
        assert str(other) == str(lstm), name
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = lstm(x)[0]
    assert_close(under, y, nmse=1e-3, what="autocast")
    under.float().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in lstm.parameters())
    for dtype, nmse in ((torch.float16, 1e-5), (torch.bfloat16, 1e-3)):
        half = copy.deepcopy(fresh).to(dtype)
        answer = half(x.to(dtype))[0]
        assert answer.dtype == dtype
        assert_close(answer, copy.deepcopy(half).float()(x.to(dtype).float())[0], nmse=nmse, what=str(dtype))


class Tagger(nn.Module):
    """Tokens and first states in, scores of every token and last states out: Embedding, LSTM, Linear, batch first.

    The states too have the batch first, so that it can stay open.
    """

    def __init__(self, lstm: LSTM) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, lstm.input_size)
        self.lstm = lstm
        self.head = nn.Linear(lstm.hidden_size, 5)

    def forward(self, tokens: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        h0, c0 = state
        y, (h, c) = self.lstm(self.embedding(tokens), (h0.transpose(0, 1), c0.transpose(0, 1)))
        return self.head(y), h.transpose(0, 1), c.transpose(0, 1)


def check_tagger_exports(lstm: LSTM, folder: Path) -> None:
    """With an open batch; each layer of the stack is one node with the name of its module."""
    tokens = torch.arange(10).reshape(2, 5)
    state = tuple(torch.from_numpy(inputs(2, 2, lstm.hidden_size, seed=s, dtype=np.float32)) for s in (1, 2))
    report = export(Tagger(lstm), (tokens, state), folder / "tagger.onnx")
    assert report.layers == ("lstm.layers.0", "lstm.layers.1")
    assert report.verified is not None
    assert report.verified.holds
    assert {comparison.rows for comparison in report.verified.outputs} == {1, 2, 3}
    assert len({comparison.name for comparison in report.verified.outputs}) == 3


class Started(nn.Module):
    """An LSTM of one layer with first states of its own, for layer_model()."""

    def __init__(self, lstm: LSTM, rows: int) -> None:
        super().__init__()
        self.lstm = lstm
        self.state = tuple(torch.from_numpy(inputs(1, rows, lstm.hidden_size, seed=s)) for s in (1, 2))

    def forward(self, x: Tensor) -> Any:
        return self.lstm(x, tuple(part.to(x.dtype) for part in self.state))
