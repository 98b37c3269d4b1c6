"""Parts of the models that are trained with a tenth of their numbers (tenth.py)."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Model(nn.Module):
    """first, then body, whose layers are replaced, then head, which stays dense."""

    def __init__(self, first: nn.Module, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.first, self.body, self.head = first, body, head

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(self.first(x)))
        return y


class Places(nn.Module):
    """Adds a trained vector for each place: (N, places, width) to the same shape."""

    def __init__(self, places: int, width: int, spread: float) -> None:
        super().__init__()
        self.vectors = nn.Parameter(spread * torch.randn(places, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.vectors[: x.shape[1]]


class Block(nn.Module):
    """A pre-norm transformer block: x + attention(norm(x)), then x + pair(norm(x)); (N, places, width) to the same.

    With `causal`, no place sees those after it.
    """

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_attention, self.norm_pair = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.pair = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_attention(x)
        query, key, value = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        answer: Tensor = x + self.pair(self.norm_pair(x))
        return answer
