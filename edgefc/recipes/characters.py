"""The task of the recipes that predict the next character of a text.

The text is reduced to 32 characters: lower-case letters, ".", ",", one for all digits, one for runs of blanks, line
ends, and one for all others. Bits per character are those of the reduced text.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.recipes import data, folders, tenth
from edgefc.recipes.fit import fit
from edgefc.recipes.recipe import Job, Outcome

ALPHABET = "abcdefghijklmnopqrstuvwxyz.,0 \n?"  # "0" for any digit, "?" for all others
HELD_OUT_ROWS = 2000
_SHORTEST = 64


@dataclass(frozen=True)
class Characters:
    """Tokens of the reduced text, (characters,) int64, for training, tuning and testing."""

    about: str
    parts: tuple[Tensor, Tensor, Tensor]

    def rows(self, part: int, length: int) -> Tensor:
        """Sequences without overlap, (rows, length + 1)."""
        return self.parts[part].unfold(0, length + 1, length + 1)


def load(folder: Path | None) -> Characters:
    """Load a text.

    Raises:
        UsageError: the text is too short for a sequence in each part.
    """
    text = data.library_docstrings(500_000) if folder is None else folders.text(folder)
    train, held_out = text.split()
    _, tuning = text.split(tuning=True)
    parts = reduced(train), reduced(tuning), reduced(held_out)
    if min(map(len, parts)) <= _SHORTEST:
        raise UsageError(f"{text.about} are too few for this recipe. Give a text of about 100,000 characters.")
    return Characters(f"{text.about}, reduced to 32 characters", parts)


def predicted(model: nn.Module, job: Job, steps: int, length: int, size: int, warm: int = 0) -> Outcome:
    """Train on `size` sequences of `length` characters in each step.

    Returns the mean number of bits per character of at most HELD_OUT_ROWS held-out sequences.
    """
    rows = job.data.rows(0, length)
    held_out = job.data.rows(1 if job.tuning else 2, length)[:HELD_OUT_ROWS]

    def loss(chosen: Tensor) -> Tensor:
        return nats(model, rows[chosen])

    fit(model, job.rate, steps, loss, len(rows), size, fused=True, warm=warm)
    more = tenth.stored(model, job.arm, rows[: tenth.CALIBRATION_ROWS, :-1])
    with torch.no_grad():
        return Outcome(float(nats(model, held_out)) / math.log(2), more)


def nats(model: nn.Module, rows: Tensor) -> Tensor:
    """The mean cross-entropy of the model, (rows, length) -> (rows, length, characters)."""
    loss: Tensor = nn.functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
    return loss


def reduced(text: str) -> Tensor:
    """Reduce a text to ALPHABET. Runs of blanks become one, so that indentation does not make the text easier."""
    index = {character: place for place, character in enumerate(ALPHABET)}
    index |= {str(digit): index["0"] for digit in range(10)}
    lines = "\n".join(" ".join(line.split()) for line in text.lower().splitlines())
    return torch.tensor([index.get(character, len(ALPHABET) - 1) for character in lines], dtype=torch.int64)
