"""Measure export and verification of a transformer-like stack of structured layers: durations and file sizes.

    python tests/bench/stack.py
    python tests/bench/stack.py --depth 24 --width 1024

Each layer has attention with circulant projections (query, key, value, output) and a feed-forward pair (up circulant,
down PRP), all of width `width`, each with layer norm and a residual connection. The size of the dense model of the same
shape is computed, not measured: six width x width float32 matrices with biases per layer.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

import edgefc
from edgefc.export import export

HEADS, TOKENS = 16, 8


class Block(nn.Module):
    """One layer of the stack. x has the shape (batch, tokens, width)."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out, self.up = (
            edgefc.CirculantLinear(width, width, seed=seed + k) for k in range(5)
        )
        self.down = edgefc.PRPLinear(width, width, seed=seed)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm_1(x)
        heads = [layer(h).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)]
        mixed = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return x + self.down(nn.functional.gelu(self.up(self.norm_2(x))))


def stack(depth: int = 24, width: int = 1024) -> nn.Module:
    """The stack with random biases and norms, as after training. Equal ones would be stored only once."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Block(width, 10 * index) for index in range(depth))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def dense_bytes(depth: int, width: int) -> int:
    return 4 * depth * (6 * (width * width + width) + 4 * width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=24)
    parser.add_argument("--width", type=int, default=1024)
    args = parser.parse_args()
    model, x = stack(args.depth, args.width), torch.randn(2, TOKENS, args.width)
    with TemporaryDirectory() as folder:
        report = export(model, x, Path(folder) / "stack.onnx")
    assert report.verified is not None
    print(
        f"depth {args.depth}, width {args.width}: {len(report.layers)} structured layers, bodies {dict(report.bodies)}"
    )
    print(f"export and verification  {report.seconds:.1f} s")
    print(f"file                     {report.file_bytes + report.data_bytes:,} bytes")
    print(f"dense would take         {dense_bytes(args.depth, args.width):,} bytes")
    print(report.verified.sentence())


if __name__ == "__main__":
    sys.exit(main())
