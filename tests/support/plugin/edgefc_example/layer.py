"""RankOneLinear: y = left (right . x) + bias."""

import torch
from torch import Tensor, nn

from edgefc.layers.common.entry import linear
from edgefc.layers.common.onnx_node import check_width, layer_node


class RankOneLinear(nn.Module):
    """x (..., n) -> (..., m) by left (m,), right (n,) and bias (m,)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.left = nn.Parameter(torch.randn(out_features))
        self.right = nn.Parameter(torch.randn(in_features) / in_features**0.5)
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        if torch.onnx.is_in_onnx_export():
            sizes = {"in_features": self.in_features, "out_features": self.out_features}
            shape = (*x.shape[:-1], self.out_features)
            return layer_node(self, x, (self.left, self.right, self.bias), sizes, shape, op="ExampleRankOne")
        return (x @ self.right)[..., None] * self.left + self.bias

    def multiply_adds(self) -> int:
        return self.in_features + self.out_features


ENTRIES = (linear("RankOneLinear", "an example", "none", RankOneLinear),)
