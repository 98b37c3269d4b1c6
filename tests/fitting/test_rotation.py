"""The seeded rotation against a dense Hadamard matrix from scipy."""

import numpy as np
import pytest
from scipy.linalg import block_diag, hadamard

from edgefc import generator
from edgefc.fitting.rotation import block_of, rotate, rotate_back


@pytest.mark.parametrize(("width", "block"), [(1, 1), (6, 2), (48, 16), (384, 128)])
def test_rotation_is_signs_then_hadamard_in_blocks(width: int, block: int) -> None:
    x = np.random.default_rng(0).normal(size=(3, width))
    signs = generator.matrix(7, 1, width, "rademacher")[0]
    dense = np.diag(signs) @ block_diag(*[hadamard(block) / np.sqrt(block)] * (width // block))
    np.testing.assert_allclose(rotate(x, 7, block), x @ dense, atol=1e-12)
    np.testing.assert_allclose(rotate_back(x, 7, block), x @ dense.T, atol=1e-12)


def test_block() -> None:
    assert [block_of(n) for n in (1, 2, 3, 17, 64, 127, 128, 129, 5000)] == [1, 2, 4, 32, 64, 128, 128, 128, 128]
