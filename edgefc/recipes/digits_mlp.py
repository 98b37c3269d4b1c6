"""digits-mlp: a perceptron n -> 2048 -> 2048 -> classes with ReLU between. The first two layers are of the arm's kind.

The last layer is dense in every arm. The layers are as wide as in models for small devices, so that their size and
latency can be measured: `edgefc demo` trains this recipe and exports the models of seed 0. The arms have different
numbers of parameters. The recipe therefore shows how much accuracy the structured layers lose against the dense layer.
It does not compare layers of the same size: circulant-mlp does that.

The functions dense, circulant and prp return the untrained models of seed 0, for edgefc verify:

    edgefc verify edgefc-demo/prp-streaming.onnx edgefc.recipes.digits_mlp:prp --weights edgefc-demo/prp.safetensors
"""

from functools import partial

from torch import Tensor, nn

from edgefc.layers.prp.linear import PRPLinear
from edgefc.recipes import data, folders
from edgefc.recipes.circulant_mlp import Layer, circulant_layer, dense_layer, perceptron
from edgefc.recipes.data import Images
from edgefc.recipes.fit import accuracy, fit_classes
from edgefc.recipes.recipe import Arm, Job, Metric, Recipe

WIDTH, STEPS, QUICK_STEPS, ROWS = 2048, 160, 2, 128
RATES = {"dense": 0.003, "circulant": 0.001, "prp": 0.01}


def arms(images: Images) -> list[Arm]:
    return [Arm(kind, partial(perceptron, layer, images, WIDTH), (RATES[kind],)) for kind, layer in _LAYERS.items()]


def train(model: nn.Module, job: Job) -> float:
    """The percentage of held-out images that are classified correctly."""
    part, held_out = job.data.split(job.seed, tuning=job.tuning)
    fit_classes(model, job.rate, QUICK_STEPS if job.quick else STEPS, part, ROWS, fused=True)
    return accuracy(model, held_out)


def example(images: Images) -> Tensor:
    """Test images of seed 0: (8, channels, height, width)."""
    return images.split(0)[1].x[:8]


def dense() -> tuple[nn.Module, Tensor]:
    """The model with torch.nn.Linear, and example inputs."""
    return _untrained("dense")


def circulant() -> tuple[nn.Module, Tensor]:
    """The model with edgefc.CirculantLinear, and example inputs."""
    return _untrained("circulant")


def prp() -> tuple[nn.Module, Tensor]:
    """The model with edgefc.PRPLinear, and example inputs."""
    return _untrained("prp")


def _untrained(kind: str) -> tuple[nn.Module, Tensor]:
    images = data.digits()
    return perceptron(_LAYERS[kind], images, WIDTH, 0), example(images)


def _prp(n: int, m: int, seed: int) -> nn.Module:
    return PRPLinear(n, m, seed=seed)


_LAYERS: dict[str, Layer] = {"dense": dense_layer, "circulant": circulant_layer, "prp": _prp}

RECIPE = Recipe(
    name="digits-mlp",
    paper="Cheng et al. 2015, arXiv 1502.03436; Szorc 2025, arXiv 2512.13480",
    question="Does a wide perceptron with circulant or PRP layers classify digits as well as a dense one?",
    bundled="scikit-learn's digits",
    wanted="MNIST (idx), CIFAR-10 (binary), a folder of images per class",
    minutes=1,
    metric=Metric("test accuracy", "%", "higher", ".2f"),
    load=folders.digits_or_images,
    arms=arms,
    train=train,
    rates=(0.001, 0.003, 0.01, 0.03),
    training=f"Adam, {STEPS} steps of {ROWS} images; the learning rate decreases to zero along a half cosine. The "
    "first rate of each arm is fixed. It was the best of 0.001, 0.003, 0.01 and 0.03 on a held-out fifth of the "
    "training images, with other seeds.",
    example=example,
)
