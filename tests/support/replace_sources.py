"""Factories for edgefc replace SOURCE."""

from typing import Any

import torch

from tests.support import compress_models as models


def mlp() -> Any:
    return models.mlp(), torch.randn(2, 32)


def bert() -> Any:
    return models.bert(), models.token_batches(1)[0]
