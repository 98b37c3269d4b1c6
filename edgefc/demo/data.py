"""The digits that come with scikit-learn: 1,797 images of 8 x 8 pixels in ten classes, no download.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998, https://doi.org/10.24432/C50P49
(the test part of it, https://scikit-learn.org/stable/datasets/toy_dataset.html#digits-dataset).
"""

from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

PIXELS, CLASSES = 64, 10
TEST_ROWS = 500
_LARGEST = 16  # grey levels run from 0 to 16


class Part(NamedTuple):
    """x (rows, 64) float32 in 0..1, y (rows,) int64."""

    x: Tensor
    y: Tensor


class Split(NamedTuple):
    train: Part
    test: Part


def digits(seed: int) -> Split:
    """1,297 digits to train on and 500 to test on, each class in its share; another split for each seed."""
    x, y = load_digits(return_X_y=True)
    whole = Part(torch.tensor(x / _LARGEST, dtype=torch.float32), torch.tensor(y, dtype=torch.int64))
    return split(whole, TEST_ROWS, seed)


def split(part: Part, test_rows: int, seed: int) -> Split:
    """Set `test_rows` rows apart, each class in its share."""
    train, test = train_test_split(range(len(part.y)), test_size=test_rows, stratify=part.y.numpy(), random_state=seed)
    return Split(Part(part.x[train], part.y[train]), Part(part.x[test], part.y[test]))
