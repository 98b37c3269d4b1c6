"""tied-resnet: a small ResNet of bottlenecks whose 1x1 convolutions, down and up, share one matrix.

A stem is followed by two stages; the second has half the height and width and twice the channels. A stage begins with a
bottleneck that changes the channels and is the same in every arm. The BLOCKS after it are of the kind of the arm:
x + W2 G(W1 x), where G is norm, ReLU, 3x3 convolution, norm, ReLU. "dense" has W1 and W2 in each block, "tied" has
W2 = W1^T in each block, and "tied per stage" has one W for all blocks. All 1x1 matrices are initialised from
N(0, 2 / width), so that the arms differ only in the sharing. As in TiedBottleneck, W2 is followed only by the sum. A
norm and a ReLU follow each stage.

"narrow dense" is the dense ResNet with fewer channels and as many parameters as "tied per stage". The paper trains
ResNet-50 on ImageNet-1k; its results were not available to us. The 3x3 convolutions have more than half of the
parameters of a block and are not shared, so no arm is near half of the parameters.
"""

from collections.abc import Callable

from torch import Tensor, nn

from edgefc.layers.tied.bottleneck import TiedBottleneck
from edgefc.recipes import folders
from edgefc.recipes.data import Images
from edgefc.recipes.fit import accuracy, fit_classes
from edgefc.recipes.recipe import Arm, Job, Metric, Recipe
from edgefc.recipes.sizes import numbers, same_size

CHANNELS, BLOCKS = 32, 3  # of the first stage; the width of a bottleneck is a quarter of its channels
STEPS, QUICK_STEPS = 150, 3

Blocks = Callable[[int, int], nn.Module]  # channels, width; BLOCKS of them


def arms(images: Images) -> list[Arm]:
    def model(blocks: Blocks, channels: int = CHANNELS) -> nn.Module:
        return _resnet(images, blocks, channels)

    small = numbers(model(_tied_per_stage))[0]
    narrow = same_size(lambda channels: model(_dense, channels), small)
    return [
        Arm("dense", lambda seed: model(_dense)),
        Arm("tied", lambda seed: model(_tied)),
        Arm("tied per stage", lambda seed: model(_tied_per_stage)),
        Arm("narrow dense", lambda seed: model(_dense, narrow)),
    ]


def train(model: nn.Module, job: Job) -> float:
    """The percentage of held-out images that are classified correctly."""
    part, held_out = job.data.split(job.seed, tuning=job.tuning)
    fit_classes(model, job.rate, QUICK_STEPS if job.quick else STEPS, part)
    return accuracy(model, held_out)


def _resnet(images: Images, blocks: Blocks, channels: int) -> nn.Module:
    """Images (N, channels, height, width) to (N, classes). The stem has a stride for pictures of 32 pixels or more."""
    colours, height, across = images.shape
    stride, stem = max(1, min(height, across) // 16), max(1, channels // 2)
    return nn.Sequential(
        nn.Conv2d(colours, stem, 2 * stride + 1, stride, stride, bias=False), nn.BatchNorm2d(stem), nn.ReLU(),
        *_stage(stem, channels, 1, blocks), *_stage(channels, 2 * channels, 2, blocks),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * channels, images.classes),
    )  # fmt: skip


def _stage(inputs: int, channels: int, stride: int, blocks: Blocks) -> tuple[nn.Module, ...]:
    width = max(1, channels // 4)
    return _First(inputs, channels, width, stride), blocks(channels, width), nn.BatchNorm2d(channels), nn.ReLU()


class _First(nn.Module):
    """The bottleneck that changes the number of channels and, with a stride of 2, halves height and width."""

    def __init__(self, inputs: int, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.inner = _bottleneck(inputs, channels, width, stride)
        self.around = _convolution(inputs, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x) + self.around(x)
        return answer


class _Dense(nn.Module):
    """A bottleneck with its own two matrices."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.inner = _bottleneck(channels, channels, width, 1)
        nn.init.normal_(self.inner[-1].weight, 0.0, (2 / width) ** 0.5)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x) + x
        return answer


def _bottleneck(inputs: int, outputs: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(inputs, width, 1, 1), nn.BatchNorm2d(width), nn.ReLU(),
        _convolution(width, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU(),
        _convolution(width, outputs, 1, 1),
    )  # fmt: skip


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    made = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


def _dense(channels: int, width: int) -> nn.Module:
    return nn.Sequential(*(_Dense(channels, width) for _ in range(BLOCKS)))


def _tied(channels: int, width: int) -> nn.Module:
    return nn.Sequential(*(TiedBottleneck(channels, width) for _ in range(BLOCKS)))


def _tied_per_stage(channels: int, width: int) -> nn.Module:
    return TiedBottleneck(channels, width, BLOCKS)


RECIPE = Recipe(
    name="tied-resnet",
    paper="Koyun and Toreyin 2024, arXiv 2401.16438",
    question="Does a small ResNet whose bottlenecks share one matrix between their 1x1 convolutions classify digits as "
    "well as a dense one, and better than a dense one with about as many parameters?",
    bundled="scikit-learn's digits",
    wanted="CIFAR-10 (binary), MNIST (idx), a folder of images per class, such as ImageNet's",
    minutes=3,
    metric=Metric("test accuracy", "%", "higher", ".2f"),
    load=folders.digits_or_images,
    arms=arms,
    train=train,
    rates=(0.01, 0.03, 0.1),
    training=f"Adam, {STEPS} steps of 64 images; the learning rate decreases to zero along a half cosine. For each arm "
    "separately, the first rate is the best of 0.01, 0.03 and 0.1 on a held-out fifth of the training images.",
    pairs=(
        ("tied", "dense"), ("tied per stage", "dense"), ("tied per stage", "tied"), ("tied per stage", "narrow dense"),
    ),
    seeds=7,
)  # fmt: skip
