"""bilinear-lstm: predict the next character of a text, with an embedding, one LSTM, and a dense layer.

The text is reduced to 32 characters: lower-case letters, ".", ",", one for all digits, one for runs of blanks, line
ends, and one for all others. Bits per character are those of the reduced text. Every sequence starts from a zero state,
so in every arm the first characters are predicted from little context. The embedding and the last layer are dense in
all arms. At scale s the bilinear LSTM has s times the units, so the last layer is larger too. "narrow dense" is the
network with torch's LSTM and about as many parameters as the bilinear one at scale 2. The gates are those of torch in
every arm. Each LSTM has the initialisation of its layer: the bilinear one has a forget bias of 1, and torch's has
biases near 0.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.layers.bilinear.lstm import BilinearLSTM
from edgefc.recipes import data, folders
from edgefc.recipes.fit import fit
from edgefc.recipes.recipe import Arm, Job, Metric, Recipe
from edgefc.recipes.sizes import numbers, same_size

ALPHABET = "abcdefghijklmnopqrstuvwxyz.,0 \n?"  # "0" for any digit, "?" for all others
WIDTH, UNITS, SCALES = 16, 64, (1, 2, 3)
LENGTH, ROWS = 16, 64
STEPS, QUICK_STEPS, HELD_OUT_ROWS = 250, 3, 2000


@dataclass(frozen=True)
class Characters:
    """Tokens of the reduced text, (characters,) int64, for training, tuning and testing."""

    about: str
    parts: tuple[Tensor, Tensor, Tensor]

    def rows(self, part: int) -> Tensor:
        """Sequences without overlap, (rows, LENGTH + 1)."""
        return self.parts[part].unfold(0, LENGTH + 1, LENGTH + 1)


def load(folder: Path | None) -> Characters:
    """Load a text.

    Raises:
        UsageError: the text is too short for a sequence in each part.
    """
    text = data.library_docstrings(500_000) if folder is None else folders.text(folder)
    train, held_out = text.split()
    _, tuning = text.split(tuning=True)
    parts = _fold(train), _fold(tuning), _fold(held_out)
    if min(map(len, parts)) <= LENGTH:
        raise UsageError(f"{text.about} are too few for this recipe. Give a text of about 100,000 characters.")
    return Characters(f"{text.about}, reduced to 32 characters", parts)


def arms(characters: Characters) -> list[Arm]:
    def dense(units: int) -> nn.Module:
        return _Model(nn.LSTM(WIDTH, units), units)

    def bilinear(scale: int) -> nn.Module:
        return _Model(BilinearLSTM(WIDTH, UNITS * scale), UNITS * scale)

    narrow = same_size(dense, numbers(bilinear(2))[0])
    return [
        Arm("dense", lambda seed: dense(UNITS)),
        *(Arm(f"bilinear x{scale}", lambda seed, scale=scale: bilinear(scale)) for scale in SCALES),  # type: ignore[misc]
        Arm("narrow dense", lambda seed: dense(narrow)),
    ]


def train(model: nn.Module, job: Job) -> float:
    """The mean number of bits per character of the held-out sequences."""
    rows, held_out = job.data.rows(0), job.data.rows(1 if job.tuning else 2)[:HELD_OUT_ROWS]

    def loss(chosen: Tensor) -> Tensor:
        return _nats(model, rows[chosen])

    fit(model, job.rate, QUICK_STEPS if job.quick else STEPS, loss, len(rows), ROWS)
    with torch.no_grad():
        return float(_nats(model, held_out)) / math.log(2)


class _Model(nn.Module):
    """(rows, steps) tokens -> (steps, rows, characters)."""

    def __init__(self, lstm: nn.Module, units: int) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(len(ALPHABET), WIDTH), lstm
        self.last = nn.Linear(units, len(ALPHABET))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.lstm(self.embedding(x.T))[0])
        return y


def _nats(model: nn.Module, rows: Tensor) -> Tensor:
    loss: Tensor = nn.functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].T.flatten())
    return loss


def _fold(text: str) -> Tensor:
    """Reduce a text to ALPHABET. Runs of blanks become one, so that indentation does not make the text easier."""
    index = {character: place for place, character in enumerate(ALPHABET)}
    index |= {str(digit): index["0"] for digit in range(10)}
    lines = "\n".join(" ".join(line.split()) for line in text.lower().splitlines())
    return torch.tensor([index.get(character, len(ALPHABET) - 1) for character in lines], dtype=torch.int64)


RECIPE = Recipe(
    name="bilinear-lstm",
    paper="Yu et al., IEEE TNNLS 2021, arXiv 2011.01391",
    question="Is a character model with a bilinear LSTM nearly as good as one with a dense LSTM if it has more units, "
    "and better than a dense one with about as many parameters?",
    bundled="docstrings of Python's standard library",
    wanted=".txt files",
    minutes=3,
    metric=Metric("bits per character", "", "lower", ".3f"),
    load=load,
    arms=arms,
    train=train,
    rates=(0.01, 0.03, 0.1),
    training=f"cross-entropy, Adam, {STEPS} steps of {ROWS} sequences of {LENGTH} characters; the learning rate "
    "decreases to zero along a half cosine. For each arm separately, the first rate is the best of 0.01, 0.03 and 0.1 "
    "on the tenth of the text between the training part and the test part. At most "
    f"{HELD_OUT_ROWS:,} sequences are tested.",
    pairs=(
        ("bilinear x2", "dense"), ("bilinear x2", "narrow dense"), ("bilinear x2", "bilinear x1"),
        ("bilinear x3", "bilinear x2"), ("bilinear x3", "dense"),
    ),
    seeds=5,
)  # fmt: skip
