"""text-lstm: an LSTM that predicts the next character (characters.py), with a tenth of its numbers (tenth.py).

An embedding, one LSTM of 128 units, and a last layer. The LSTM and the last layer are replaced; only circulant and
bilinear LSTMs exist. Every sequence starts from a zero state, so in every arm the first characters are predicted from
little context. The gates are those of torch in every arm. Each LSTM has the initialisation of its layer: the circulant
and bilinear ones have a forget bias of 1, and torch's has biases near 0.
"""

from torch import Tensor, nn

from edgefc.recipes import characters, tenth
from edgefc.recipes.bodies import Model
from edgefc.recipes.characters import ALPHABET, Characters
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe

WIDTH, UNITS, RATE = 16, 128, 0.03
STEPS, QUICK_STEPS, LENGTH, ROWS = 250, 3, 16, 64
FAMILIES = (tenth.CIRCULANT, tenth.BILINEAR, tenth.BILINEAR_X2)


def arms(text: Characters) -> list[Arm]:
    return tenth.arms(model, UNITS, FAMILIES, RATE)


def model(units: int) -> nn.Module:
    """Tokens (N, steps) to (N, steps, characters)."""
    body = nn.Sequential(_Lstm(units), nn.Linear(units, len(ALPHABET)))
    return Model(nn.Embedding(len(ALPHABET), WIDTH), body, nn.Identity())


def train(model: nn.Module, job: Job) -> Outcome:
    """The mean number of bits per character of the held-out sequences."""
    return characters.predicted(model, job, QUICK_STEPS if job.quick else STEPS, LENGTH, ROWS)


class _Lstm(nn.Module):
    """(N, steps, WIDTH) to (N, steps, units)."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, units, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0]
        return y


RECIPE = Recipe(
    name="text-lstm",
    paper="Yu et al., IEEE TNNLS 2021, arXiv 2011.01391",
    question="Does a circulant or bilinear LSTM predict characters as well as a dense one with a tenth of its numbers, "
    "and does twice the width help?",
    bundled="docstrings of Python's standard library",
    wanted=".txt files",
    minutes=6,
    metric=Metric("bits per character", "", "lower", ".3f"),
    load=characters.load,
    arms=arms,
    train=train,
    rates=(0.01, 0.03),
    training=f"cross-entropy, Adam, {STEPS} steps of {ROWS} sequences of {LENGTH} characters; the learning rate "
    "decreases to zero along a half cosine. For each arm separately, the first rate is the better of 0.01 and 0.03 on "
    "the tenth of the text between the training part and the test part, with one seed; the models that are rounded "
    f"afterwards have {RATE}.",
    pairs=(),
    seeds=3,
    tuning_seeds=1,
)
