"""tied-vit: a small vision transformer whose blocks have one shared matrix in place of two.

The digits are cut into patches of 2 x 2 pixels. There are two pre-norm blocks, and the mean of the tokens goes to a
dense layer. For larger pictures, the side of a patch is an eighth of the shorter side of the picture, and remaining
pixels at the edge are not used. The arms differ only in the blocks; a dense block has torch's nn.MultiheadAttention and
nn.Linear, GELU, nn.Linear. Each layer has its own initialisation, so dense and tied layers start differently.

"half FFN" is the dense transformer with half of the hidden units: it has as many parameters as "tied FFN" except for
biases, and fewer multiply-adds. "narrow dense" is narrower everywhere, with as many parameters as the smallest tied
arm. The paper trains on ImageNet-1k at sizes that were not available to us. The choice of the shared attention matrices
is our reconstruction (TiedAttention).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgefc.layers.tied.attention import TiedAttention
from edgefc.layers.tied.ffn import TiedFFN
from edgefc.recipes import folders
from edgefc.recipes.data import Images
from edgefc.recipes.fit import accuracy, fit_classes
from edgefc.recipes.recipe import Arm, Job, Metric, Recipe
from edgefc.recipes.sizes import numbers, same_size

WIDTH, HIDDEN, HEADS, DEPTH = 32, 128, 2, 2
STEPS, QUICK_STEPS, ROWS = 500, 3, 32
PLACES = 0.5  # initial standard deviation of position embeddings; with 0.02, few steps learn little but the positions

Attention = Callable[[int], nn.Module]  # width; the module is called with (query, key, value, need_weights=...)
Pair = Callable[[int, int], nn.Module]  # width, hidden


def arms(images: Images) -> list[Arm]:
    def model(attention: Attention, pair: Pair, width: int = WIDTH, hidden: int = HIDDEN) -> nn.Module:
        return _Transformer(images, [_Block(width, attention(width), pair(width, hidden)) for _ in range(DEPTH)], width)

    def dense(width: int, hidden: int) -> nn.Module:
        return model(_attention, _pair, width, hidden)

    small = numbers(model(_tied("vo+qk_t"), _tied_pair))[0]
    narrow = HEADS * same_size(lambda size: dense(HEADS * size, HIDDEN // WIDTH * HEADS * size), small)
    hidden = same_size(lambda size: dense(narrow, size), small)
    return [
        Arm("dense", lambda seed: dense(WIDTH, HIDDEN)),
        Arm("tied FFN", lambda seed: model(_attention, _tied_pair)),
        Arm("tied FFN + vo", lambda seed: model(_tied("vo"), _tied_pair)),
        Arm("tied FFN + vo+qk_t", lambda seed: model(_tied("vo+qk_t"), _tied_pair)),
        Arm("half FFN", lambda seed: dense(WIDTH, HIDDEN // 2)),
        Arm("narrow dense", lambda seed: dense(narrow, hidden)),
    ]


def train(model: nn.Module, job: Job) -> float:
    """The percentage of held-out images that are classified correctly."""
    part, held_out = job.data.split(job.seed, tuning=job.tuning)
    fit_classes(model, job.rate, QUICK_STEPS if job.quick else STEPS, part, ROWS)
    return accuracy(model, held_out)


class _Transformer(nn.Module):
    """Images (N, channels, height, width) to (N, classes)."""

    def __init__(self, images: Images, blocks: list[nn.Module], width: int) -> None:
        super().__init__()
        channels, height, across = images.shape
        side = min(height, across, max(2, min(height, across) // 8))
        self.patches = nn.Conv2d(channels, width, side, side)
        self.places = nn.Parameter(PLACES * torch.randn((height // side) * (across // side), width))
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.classes = nn.LayerNorm(width), nn.Linear(width, images.classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        answer: Tensor = self.classes(self.norm(self.blocks(tokens)).mean(1))
        return answer


class _Block(nn.Module):
    """A pre-norm block: x + attention(norm(x)), then x + pair(norm(x)); (N, tokens, width) to the same shape."""

    def __init__(self, width: int, attention: nn.Module, pair: nn.Module) -> None:
        super().__init__()
        self.norm_attention, self.attention = nn.LayerNorm(width), attention
        self.norm_pair, self.pair = nn.LayerNorm(width), pair

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_attention(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        answer: Tensor = x + self.pair(self.norm_pair(x))
        return answer


def _attention(width: int) -> nn.Module:
    return nn.MultiheadAttention(width, HEADS, batch_first=True)


def _tied(tie: str) -> Attention:
    return lambda width: TiedAttention(width, HEADS, batch_first=True, tie=tie)


def _pair(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


def _tied_pair(width: int, hidden: int) -> nn.Module:
    return TiedFFN(width, hidden)


RECIPE = Recipe(
    name="tied-vit",
    paper="Koyun and Toreyin 2024, arXiv 2401.16438",
    question="Does a small vision transformer whose pairs of layers share one matrix classify digits as well as a "
    "dense one, and better than a dense one with about as many parameters?",
    bundled="scikit-learn's digits",
    wanted="CIFAR-10 (binary), MNIST (idx), a folder of images per class, such as ImageNet's",
    minutes=3,
    metric=Metric("test accuracy", "%", "higher", ".2f"),
    load=folders.digits_or_images,
    arms=arms,
    train=train,
    rates=(0.001, 0.003, 0.01),
    training=f"Adam, {STEPS} steps of {ROWS} images; the learning rate decreases to zero along a half cosine. For each "
    "arm separately, the first rate is the best of 0.001, 0.003 and 0.01 on a held-out fifth of the training images.",
    pairs=(
        ("tied FFN", "dense"), ("tied FFN", "half FFN"), ("tied FFN + vo", "dense"), ("tied FFN + vo+qk_t", "dense"),
        ("tied FFN + vo+qk_t", "narrow dense"),
    ),
    seeds=5,
)  # fmt: skip
