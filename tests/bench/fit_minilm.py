"""Compress MiniLM-L6 with edgefc.fitting, without training, and compare its sentence embeddings with the original's.

    python tests/bench/fit_minilm.py
    python tests/bench/fit_minilm.py --only int4,table

Columns: stored bits per weight of the layers that are compressed, their ratio to float32, the mean cosine of the
embeddings on sentences of other modules, and the CPU time of the fits. Sequential cases refit each layer to inputs
from the compressed model. See minilm.py for the sentences.
"""

import argparse
import copy
import time
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from minilm import batches, embeddings, linears, model_and_tokenizer, sentences
from torch import nn

from edgefc.fitting.fitted import Fitted
from edgefc.fitting.moments import Moments, TokenCounts
from edgefc.fitting.sequential import PairedMoments, target
from edgefc.fitting.solve import fit, fit_table
from edgefc.plan import Configuration, Half, Int2, Int3, Int4, Int8, LowRank
from edgefc.tables import print_table

SEED = 0


@dataclass(frozen=True)
class Case:
    """linear: of the encoder's linear layers; table: of the token table; None: left dense."""

    name: str
    linear: Configuration | None = None
    table: Configuration | None = None
    sequential: bool = False


CASES = (
    Case("half", Half()),
    Case("int8", Int8()),
    Case("int4 g32", Int4(rotate=False)),
    Case("int4 g32 rotated", Int4()),
    Case("int3 g128 rotated", Int3()),
    Case("int2 g32 rotated", Int2()),
    Case("int2 g32 rotated rank 16", Int2(rank=16)),
    Case("int2 g64 rotated rank 8", Int2(group=64, rank=8)),
    Case("low rank 2x", LowRank(ratio=2)),
    Case("low rank 2x int8", LowRank(ratio=2, storage="int8")),
    Case("low rank 4x", LowRank(ratio=4)),
    Case("low rank 4x sequential", LowRank(ratio=4), sequential=True),
    Case("table int8", table=Int8()),
    Case("table int4", table=Int4()),
    Case("table low rank 4x", table=LowRank(ratio=4)),
    Case("int4 g32 rotated, table int4", Int4(), Int4()),
)


@dataclass
class Seen:
    """What calibration saw: moments per linear layer, shared by layers with the same input, and token counts."""

    moments: dict[str, Moments] = field(default_factory=dict)
    counts: TokenCounts = field(default_factory=lambda: TokenCounts.empty(0))


def shared(name: str) -> str:
    """The name of the layer whose moments a layer shares: query, key and value have one input."""
    return name.replace(".key", ".query").replace(".value", ".query")


@torch.no_grad()
def calibrate(model: nn.Module, encoded: list) -> Seen:
    layers = {name: layer for name, layer in linears(model).items() if shared(name) == name}
    seen = Seen({name: Moments.empty(layer.in_features) for name, layer in layers.items()})
    seen.counts = TokenCounts.empty(model.embeddings.word_embeddings.num_embeddings)
    real = torch.zeros(0, dtype=torch.bool)

    def look(name: str, layer: nn.Module, args: tuple) -> None:
        seen.moments[name].add(args[0].flatten(0, 1)[real].numpy())

    hooks = [layer.register_forward_pre_hook(partial(look, name)) for name, layer in layers.items()]
    for batch in encoded:
        real = batch["attention_mask"].bool().flatten()
        seen.counts.add(batch["input_ids"].flatten()[real].numpy())
        model(**batch)
    for hook in hooks:
        hook.remove()
    return seen


def replace_linears(model: nn.Module, to: Configuration, seen: Seen) -> list[Fitted]:
    fits = []
    for name, layer in linears(model).items():
        fits.append(fit(to, layer.weight.numpy(), layer.bias.numpy(), seen.moments[shared(name)], SEED))
        put(layer, fits[-1])
    return fits


@torch.no_grad()
def replace_in_sequence(model: nn.Module, original: nn.Module, to: Configuration, encoded: list) -> list[Fitted]:
    """Refits each layer against the outputs of the original, given inputs from the layers replaced before.

    Blocks run one at a time on stored hidden states.
    """
    fits = []
    states = [first_block_inputs(original, batch) for batch in encoded]
    states = [(hidden, hidden, settings, batch["attention_mask"].bool().flatten())
              for (hidden, settings), batch in zip(states, encoded, strict=True)]  # fmt: skip
    for theirs, ours in zip(original.encoder.layer, model.encoder.layer, strict=True):
        names = [name for name, layer in ours.named_modules() if isinstance(layer, nn.Linear)]
        for name in [name for name in names if shared(name) == name]:
            paired = paired_inputs(theirs, ours, name, states)
            for each in [each for each in names if shared(each) == name]:
                trained, layer = theirs.get_submodule(each), ours.get_submodule(each)
                weight, bias = target(trained.weight.numpy(), trained.bias.numpy(), paired)
                fits.append(fit(to, weight, bias, paired.moments, SEED))
                put(layer, fits[-1])
        states = [(output(theirs, x, settings), output(ours, z, settings), settings, real)
                  for x, z, settings, real in states]  # fmt: skip
    return fits


def first_block_inputs(model: nn.Module, batch: dict) -> tuple[torch.Tensor, dict]:
    found = []
    block = model.encoder.layer[0]
    hook = block.register_forward_pre_hook(lambda _, args, settings: found.append((args, settings)), with_kwargs=True)
    model(**batch)
    hook.remove()
    (hidden, *rest), settings = found[0]
    return hidden, {"attention_mask": rest[0]} | settings if rest else settings


def output(block: nn.Module, hidden: torch.Tensor, settings: dict) -> torch.Tensor:
    found = block(hidden, **settings)
    return found[0] if isinstance(found, tuple) else found


def paired_inputs(theirs: nn.Module, ours: nn.Module, name: str, states: list) -> PairedMoments:
    """The inputs of a layer of a block in both models."""
    layers, found = [theirs.get_submodule(name), ours.get_submodule(name)], []
    paired = PairedMoments(layers[0].in_features)
    hooks = [layer.register_forward_pre_hook(lambda _, args: found.append(args[0].flatten(0, 1))) for layer in layers]
    for x, z, settings, real in states:
        output(theirs, x, settings)
        output(ours, z, settings)
        paired.add(*(rows[real].numpy() for rows in found))
        found.clear()
    for hook in hooks:
        hook.remove()
    return paired


def put(layer: nn.Module, fitted: Fitted) -> None:
    layer.weight.data = torch.from_numpy(fitted.dense()).float()
    if fitted.bias is not None:
        layer.bias.data = torch.from_numpy(fitted.bias).float()


@torch.no_grad()
def measure(case: Case, original: nn.Module, seen: Seen, calibration: list, tested: list, truth: torch.Tensor) -> list:
    model, fits = copy.deepcopy(original), []
    start = time.process_time()
    if case.linear is not None and case.sequential:
        fits += replace_in_sequence(model, original, case.linear, calibration)
    elif case.linear is not None:
        fits += replace_linears(model, case.linear, seen)
    if case.table is not None:
        table = model.embeddings.word_embeddings
        fits.append(fit_table(case.table, table.weight.numpy(), seen.counts.counts, SEED))
        put(table, fits[-1])
    seconds = time.process_time() - start
    bits = sum(each.stored_bits for each in fits) / sum(np.prod(each.dense().shape) for each in fits)
    cosine = float((embeddings(model, tested) * truth).sum(1).mean())
    return [case.name, f"{bits:.2f}", f"{32 / bits:.1f}x", f"{cosine:.5f}", f"{seconds:.0f} s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="parts of names of cases, with commas between (default: all)")
    wanted = parser.parse_args().only.split(",")
    original, tokenizer = model_and_tokenizer()
    original.requires_grad_(False)
    calibration, tested = (list(batches(tokenizer, lines)) for lines in sentences())
    seen, truth = calibrate(original, calibration), embeddings(original, tested)
    cases = [case for case in CASES if any(part in case.name for part in wanted)]
    rows = [measure(case, original, seen, calibration, tested, truth) for case in cases]
    print_table(("case", "bits", "ratio", "cosine", "fit, CPU"), rows, left=1)


if __name__ == "__main__":
    main()
