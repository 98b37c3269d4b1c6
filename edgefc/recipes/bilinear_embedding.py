"""bilinear-embedding: predict a missing word among the 64 most common ones from two words before it and two after it.

The embedding of each neighbour is multiplied by a trained vector for its position. The sum of the four is classified by
a dense layer. The vocabulary has 4,096 entries: the most common words, numbered by frequency, and one for all others.
The bilinear embedding shares one of the two factor rows of a word among 64 consecutive numbers, and so among words of
similar frequency. At scale s it has s times the columns. Two dense models are compared with the bilinear one at scale
2: "narrow dense" has fewer columns, so its number of parameters matches only roughly; "few words" has fewer entries
(the most common ones) and the same number of parameters. As in the authors' code, all tables, and each factor of the
bilinear one, are initialised uniformly in +-0.05.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.layers.bilinear.embedding import BilinearEmbedding
from edgefc.recipes import data, folders
from edgefc.recipes.data import Part
from edgefc.recipes.fit import accuracy, fit_classes
from edgefc.recipes.recipe import Arm, Job, Metric, Recipe
from edgefc.recipes.sizes import numbers, same_size

WORDS, WIDTH, SCALES = 4096, 32, (1, 2, 3)
ASKED, AROUND, START = 64, 2, 0.05
STEPS, QUICK_STEPS, ROWS = 1000, 5, 128


@dataclass(frozen=True)
class Gaps:
    """Neighbours (gaps, 2 AROUND) and words (gaps,) as int64 numbers, for training, tuning and testing."""

    about: str
    parts: tuple[Part, Part, Part]


def load(folder: Path | None) -> Gaps:
    """Load a text. The vocabulary is that of the training part.

    Raises:
        UsageError: the text is too short: a part has fewer than ASKED gaps.
    """
    text = data.library_docstrings(1_000_000) if folder is None else folders.text(folder)
    train, held_out = text.split()
    _, tuning = text.split(tuning=True)
    words = [_words(part) for part in (train, tuning, held_out)]
    index = {word: place for place, (word, _) in enumerate(Counter(words[0]).most_common(WORDS - 1))}
    parts = tuple(_gaps(part, index) for part in words)
    if min(len(part.y) for part in parts) < ASKED or len(index) < ASKED:
        raise UsageError(f"{text.about} are too few for this recipe. Give a text of about 100,000 characters.")
    about = f"{text.about}, {len(parts[0].y):,} gaps for training and {len(parts[2].y):,} for testing"
    return Gaps(about, (parts[0], parts[1], parts[2]))


def arms(gaps: Gaps) -> list[Arm]:
    def dense(width: int, words: int = WORDS) -> nn.Module:
        table = nn.Embedding(words, width)
        nn.init.uniform_(table.weight, -START, START)
        return _Model(table, width, words)

    def bilinear(scale: int) -> nn.Module:
        return _Model(BilinearEmbedding(WORDS, WIDTH * scale), WIDTH * scale, WORDS)

    wanted = numbers(bilinear(2))[0]
    narrow = same_size(dense, wanted)
    few = same_size(lambda words: dense(WIDTH, words), wanted)
    return [
        Arm("dense", lambda seed: dense(WIDTH)),
        *(Arm(f"bilinear x{scale}", lambda seed, scale=scale: bilinear(scale)) for scale in SCALES),  # type: ignore[misc]
        Arm("narrow dense", lambda seed: dense(narrow)),
        Arm("few words", lambda seed: dense(WIDTH, few)),
    ]


def train(model: nn.Module, job: Job) -> float:
    """The percentage of held-out gaps that are predicted correctly."""
    parts = job.data.parts
    fit_classes(model, job.rate, QUICK_STEPS if job.quick else STEPS, parts[0], ROWS)
    return accuracy(model, parts[1 if job.tuning else 2])


class _Model(nn.Module):
    """(gaps, 2 AROUND) -> (gaps, ASKED). Word numbers beyond the table are mapped to its last entry."""

    def __init__(self, table: nn.Module, width: int, words: int) -> None:
        super().__init__()
        self.table, self.last_word = table, words - 1
        self.places = nn.Parameter(torch.ones(2 * AROUND, width))
        self.last = nn.Linear(width, ASKED)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.table(x.clamp(max=self.last_word))
        y: Tensor = self.last((rows * self.places).sum(1))
        return y


def _words(text: str) -> list[str]:
    """The words in lower case, single punctuation characters, and "0" for every number."""
    return ["0" if word[0].isdigit() else word for word in re.findall(r"[a-z_]+|[0-9]+|[^\sa-z0-9_]", text.lower())]


def _gaps(words: list[str], index: dict[str, int]) -> Part:
    """Every word whose number is below ASKED, with its neighbours. Words at the ends of the text are left out."""
    tokens = torch.tensor([index.get(word, WORDS - 1) for word in words], dtype=torch.int64)
    if len(tokens) <= 2 * AROUND:
        return Part(tokens.new_empty(0, 2 * AROUND), tokens.new_empty(0))
    windows = tokens.unfold(0, 2 * AROUND + 1, 1)
    windows = windows[windows[:, AROUND] < ASKED]
    return Part(torch.cat([windows[:, :AROUND], windows[:, AROUND + 1 :]], 1), windows[:, AROUND].contiguous())


RECIPE = Recipe(
    name="bilinear-embedding",
    paper="Yu et al., IEEE TNNLS 2021, arXiv 2011.01391",
    question="Does a model with a bilinear embedding predict missing words as well as one with a dense embedding if it "
    "has more columns, and better than a dense one with about as many parameters?",
    bundled="docstrings of Python's standard library",
    wanted=".txt files",
    minutes=2,
    metric=Metric("test accuracy", "%", "higher", ".2f"),
    load=load,
    arms=arms,
    train=train,
    rates=(0.01, 0.03, 0.1, 0.3),
    training=f"Adam, {STEPS} steps of {ROWS} gaps; the learning rate decreases to zero along a half cosine. For each "
    "arm separately, the first rate is the best of 0.01, 0.03, 0.1 and 0.3 on the tenth of the text between the "
    "training part and the test part.",
    pairs=(
        ("bilinear x2", "dense"), ("bilinear x2", "narrow dense"), ("bilinear x2", "few words"),
        ("bilinear x2", "bilinear x1"), ("bilinear x3", "bilinear x2"),
    ),
    seeds=5,
)  # fmt: skip
