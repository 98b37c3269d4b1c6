"""The common part of LSTMs with structured matrices: recurrence, stacked layers, packed sequences, torch.nn.LSTM's API.

    Z_g = W_g x_t + R_g h_(t-1) + b_g for the gates i, f, g, o
    c_t = s(Z_f) c_(t-1) + s(Z_i) tanh(Z_g)        h_t = s(Z_o) tanh(c_t)

The families define W_g and R_g. The products with W are computed for all steps at once. The products with R are
computed in a Python loop over the steps. torch.compile unrolls this loop: it compiles once for each length, and
compilation of long sequences is slow.

In ONNX a layer is one node that accepts any sequence length. If initial states are inputs of the exported model, their
batch axis can be dynamic only if it is their first axis: transpose them within the model. Packed sequences cannot be
exported. A sequence of length zero raises an error, as in torch. An empty batch works in torch, but onnxruntime rejects
it for the bilinear LSTM.

gates="torch" matches torch.nn.LSTM: s is the sigmoid. gates="keras" matches Keras in TensorFlow 1, which the authors of
the bilinear LSTM used: the same order (there called i, f, c, o), s(z) = clip(0.2 z + 0.5, 0, 1). This is not torch's
hardsigmoid.

Symbols: S steps, B batch, n inputs, h units.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common.onnx_node import check_dropout, check_width, is_size

GATES = ("torch", "keras")
Product = Callable[[Tensor], Tensor]
States = tuple[Tensor, Tensor]
AnyLSTM = TypeVar("AnyLSTM", bound="_LSTM")

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Layer(nn.Module, ABC):
    """One layer of the stack. The families define how its matrices are stored and applied.

    Shapes:
        bias    (4, h) or None, the gates in the order i, f, g, o
        x       (S, B, n), or (sum of rows, n) where rows[t] is the number of rows in step t
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool, gates: str, **where: Any) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.gates = input_size, hidden_size, gates
        self.bias = nn.Parameter(torch.empty(4, hidden_size, **where)) if bias else None

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Multiplies x (..., n) by W of every gate: (..., 4, h)."""

    @abstractmethod
    def recurrent(self) -> Product:
        """Returns the function that multiplies h (B, h) by R of every gate: (B, 4, h)."""

    @abstractmethod
    def matrices(self) -> States:
        """Returns W (4, h, n) and R (4, h, h), computed independently of project() and recurrent()."""

    @abstractmethod
    def fit(self, w: Tensor, r: Tensor) -> None:
        """Approximates W (4, h, n) and R (4, h, h)."""

    @abstractmethod
    def node(self, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns y, h and c of the layer's ONNX node."""

    @abstractmethod
    def multiply_adds(self) -> int:
        """Returns the multiply-adds of one step: both products, without the gates."""

    @torch.no_grad()
    def reset_bias(self) -> None:
        """Sets the bias to 1 for the forget gate and 0 elsewhere, as the authors of the bilinear LSTM do."""
        if self.bias is not None:
            self.bias.zero_()[1] = 1

    def biases(self) -> Tensor:
        """Returns the biases (4, h), zero if the layer has none: the node always has a bias input."""
        like = next(self.parameters())
        return like.new_zeros(4, self.hidden_size) if self.bias is None else self.bias

    def forward(
        self, x: Tensor, state: States | None, rows: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if torch.onnx.is_in_onnx_export():
            zeros = x.new_zeros(1, self.hidden_size)  # one row for the whole batch
            return self.node(x, *(state or (zeros, zeros)))
        z = self.project(x)
        if self.bias is not None:
            z = z + self.bias
        parts = z.unbind(0) if rows is None else torch.split(z, list(rows))
        zeros = z.new_zeros(parts[0].shape[0], self.hidden_size)
        y, h, c = self._steps(parts, *(state or (zeros, zeros)))
        return (torch.stack(y) if rows is None else torch.cat(y)), h, c

    def _steps(self, parts: Sequence[Tensor], h: Tensor, c: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Returns the outputs of every step and the final states. The rows of ended sequences keep their states."""
        gate, product, outputs = _GATE[self.gates], self.recurrent(), []
        for part in parts:
            running = part.shape[0]
            i, f, g, o = (part + product(h[:running])).unbind(-2)
            c_now = gate(f) * c[:running] + gate(i) * torch.tanh(g)
            h_now = gate(o) * torch.tanh(c_now)
            outputs.append(h_now)
            h = h_now if running == h.shape[0] else torch.cat([h_now, h[running:]])
            c = c_now if running == c.shape[0] else torch.cat([c_now, c[running:]])
        return outputs, h, c

    def extra_repr(self) -> str:
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}"


class _LSTM(nn.Module):
    """A stack of layers with the arguments and results of torch.nn.LSTM, for one direction and without projection."""

    bidirectional, proj_size = False, 0  # attributes of torch.nn.LSTM that other code reads

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        gates: str,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if not all(is_size(size) for size in (input_size, hidden_size, num_layers)):
            raise ShapeError(
                f"{name} does not support input_size={input_size!r}, hidden_size={hidden_size!r}, "
                f"num_layers={num_layers!r}. Choose integers from 1 to 2**31 - 1."
            )
        if gates not in GATES:
            raise UsageError(f"{name} does not support gates={gates!r}. Choose 'torch' or 'keras'.")
        self.dropout = check_dropout(name, dropout)
        _check_plain(name, bidirectional, proj_size)
        self.input_size, self.hidden_size, self.num_layers = int(input_size), int(hidden_size), int(num_layers)
        self.has_bias, self.batch_first, self.gates = bool(bias), bool(batch_first), gates
        self.layers: Any = nn.ModuleList()

    def reset_parameters(self) -> None:
        """Initialises the parameters of every layer."""
        for layer in self.layers:
            layer.reset_parameters()

    def flatten_parameters(self) -> None:
        """Does nothing. torch.nn.LSTM has this method for GPU memory layout, and other code calls it."""

    def forward(self, input: Tensor | PackedSequence, hx: States | None = None) -> tuple[Any, States]:
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        check_width(self, input, self.input_size)
        single = input.ndim == 2
        if not single and input.ndim != 3:
            raise ShapeError(self._expected_shape(input))
        x = input.unsqueeze(1) if single else input.transpose(0, 1) if self.batch_first else input
        if x.shape[0] == 0:
            raise ShapeError(self._expected_shape(input))
        y, states = self._stack(x, self._start(hx, x.shape[1], single))
        if single:
            return y.squeeze(1), (states[0].squeeze(1), states[1].squeeze(1))
        return (y.transpose(0, 1) if self.batch_first else y), states

    @torch.no_grad()
    def dense(self) -> dict[str, Tensor]:
        """Returns a state dict for torch.nn.LSTM with the same matrices. Its bias_hh entries are zero.

        With gates="torch" that LSTM is equivalent. torch has no equivalent for gates="keras".
        """
        result = {}
        for index, layer in enumerate(self.layers):
            for name, matrix in zip(_NAMES[:2], layer.matrices(), strict=True):
                result[f"{name}_l{index}"] = matrix.reshape(-1, matrix.shape[-1])
            if layer.bias is not None:
                result[f"bias_ih_l{index}"] = layer.bias.detach().flatten().clone()
                result[f"bias_hh_l{index}"] = torch.zeros_like(result[f"bias_ih_l{index}"])
        return result

    def multiply_adds(self) -> int:
        """Returns the multiply-adds of one step of one sequence, over all layers."""
        return sum(layer.multiply_adds() for layer in self.layers)

    def extra_repr(self) -> str:
        return (
            f"input_size={self.input_size}, hidden_size={self.hidden_size}, num_layers={self.num_layers}, "
            f"bias={self.has_bias}, batch_first={self.batch_first}, dropout={self.dropout}, gates={self.gates!r}"
        )

    def _forward_packed(self, packed: PackedSequence, hx: States | None) -> tuple[PackedSequence, States]:
        if torch.onnx.is_in_onnx_export():
            raise UsageError(
                f"{type(self).__name__} cannot export packed sequences. Pass one padded tensor, and read the output of "
                "each sequence at its last step."
            )
        check_width(self, packed.data, self.input_size)
        rows = packed.batch_sizes.tolist()
        state = self._start(hx, rows[0], single=False)
        if state is not None and packed.sorted_indices is not None:
            state = state[0][:, packed.sorted_indices], state[1][:, packed.sorted_indices]
        y, (h, c) = self._stack(packed.data, state, rows)
        if packed.unsorted_indices is not None:
            h, c = h[:, packed.unsorted_indices], c[:, packed.unsorted_indices]
        return PackedSequence(y, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices), (h, c)

    def _stack(self, x: Tensor, state: States | None, rows: Sequence[int] | None = None) -> tuple[Tensor, States]:
        hidden, cell = [], []
        for index, layer in enumerate(self.layers):
            if index:
                x = nn.functional.dropout(x, self.dropout, self.training)
            x, h, c = layer(x, None if state is None else (state[0][index], state[1][index]), rows)
            hidden.append(h)
            cell.append(c)
        return x, (torch.stack(hidden), torch.stack(cell))

    def _start(self, hx: States | None, batch: int, single: bool) -> States | None:
        """Returns both initial states as (layers, B, h)."""
        if hx is None:
            return None
        shape = (self.num_layers, self.hidden_size) if single else (self.num_layers, batch, self.hidden_size)
        if isinstance(hx, Tensor) or len(hx) != 2 or not all(isinstance(state, Tensor) for state in hx):
            raise UsageError(f"{type(self).__name__} expects two initial states of shape {shape}. Pass (h_0, c_0).")
        for state in hx:
            if tuple(state.shape) != shape:
                raise ShapeError(
                    f"{type(self).__name__} expects initial states of shape {shape} for this input, got "
                    f"{tuple(state.shape)}. Pass (h_0, c_0) with one state for each layer."
                )
        h, c = hx
        return (h.unsqueeze(1), c.unsqueeze(1)) if single else (h, c)

    def _expected_shape(self, input: Tensor) -> str:
        axes = "(batch, steps, features)" if self.batch_first else "(steps, batch, features)"
        return (
            f"{type(self).__name__} expects an input of shape {axes}, or (steps, features) for one sequence, with at "
            f"least one step, got {tuple(input.shape)}."
        )


def _sigmoid_of_keras(z: Tensor) -> Tensor:
    return torch.clamp(0.2 * z + 0.5, 0, 1)


_GATE: dict[str, Product] = {"torch": torch.sigmoid, "keras": _sigmoid_of_keras}


def _check_plain(name: str, bidirectional: bool, proj_size: int) -> None:
    if bidirectional:
        raise UsageError(
            f"{name} does not support bidirectional=True. Use two of them, one on the reversed sequence, input.flip(0)."
        )
    if proj_size:
        raise UsageError(f"{name} does not support proj_size={proj_size!r}. Add a linear layer after it.")


@torch.no_grad()
def _fitted(make: Callable[..., AnyLSTM], lstm: nn.LSTM, **options: Any) -> AnyLSTM:
    """Builds a stack with `make` and the arguments of `lstm`, and fits each of its layers to that of `lstm`."""
    _check_plain(getattr(make, "__name__", ""), lstm.bidirectional, lstm.proj_size)
    like = lstm.weight_ih_l0
    result = make(
        lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.bias, lstm.batch_first, lstm.dropout,
        device=like.device, dtype=like.dtype, **options,
    )  # fmt: skip
    for index, layer in enumerate(result.layers):
        w, r, *biases = (getattr(lstm, f"{name}_l{index}").double() for name in _NAMES[: 4 if lstm.bias else 2])
        layer.fit(*(weight.reshape(4, lstm.hidden_size, -1) for weight in (w, r)))
        if layer.bias is not None:
            layer.bias.copy_(sum(biases).view_as(layer.bias))
    return result
