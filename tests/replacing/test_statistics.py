"""Moments of the inputs of layers: one pass or several, shared inputs, padding, patches, and several processes."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgefc
from edgefc.errors import UsageError
from edgefc.fitting.moments import Moments
from edgefc.plan import LowRank
from edgefc.replacing import resuming
from edgefc.replacing.finding import Target, find
from edgefc.replacing.statistics import Pass, groups_of, passes_of
from tests.support import compress_models as models

ROOT = Path(__file__).resolve().parents[2]


def collected(model: nn.Module, batches: list[Any], memory: int = 1 << 30) -> dict[str, Any]:
    targets = [each for each in find(model) if each.kind in ("linear", "convolution", "embedding") and not each.aliases]
    result = {}
    for part in passes_of(groups_of(model, targets, batches[0]), memory):
        one = Pass(part)
        one.run(model, batches)
        result |= {target.name: statistics for target, statistics in one.of().items()}
    return result


def inputs_of(model: nn.Module, name: str, batches: list[Any]) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    with torch.no_grad():
        for batch in batches:
            model(**batch) if isinstance(batch, dict) else model(batch)
    handle.remove()
    return seen


def assert_moments(moments: Moments, rows: np.ndarray) -> None:
    assert moments.count == len(rows)
    assert np.allclose(moments.mean, rows.mean(0), atol=1e-12)
    assert np.allclose(moments.covariance, np.cov(rows.T, bias=True), atol=1e-12)


@pytest.mark.parametrize("name", ["encoder.layer.0.attention.self.key", "encoder.layer.1.output.dense"])
def test_moments_leave_out_padding(name: str) -> None:
    """Oracle: numpy on the recorded inputs."""
    model, batches = models.bert(), models.token_batches()
    found = collected(model, batches)
    recorded = inputs_of(model, name, batches)
    pairs = zip(recorded, batches, strict=True)
    rows = torch.cat([x[batch["attention_mask"].bool()] for x, batch in pairs]).double().numpy()
    assert_moments(found[name], rows)
    assert_moments(found["pooler.dense"], torch.cat(inputs_of(model, "pooler.dense", batches)).double().numpy())
    counts = torch.cat([batch["input_ids"][batch["attention_mask"].bool()] for batch in batches]).bincount(minlength=60)
    assert np.array_equal(found["embeddings.word_embeddings"].counts, counts.numpy())


def test_queries_keys_and_values_share_their_moments() -> None:
    model, batches = models.bert(), models.token_batches()
    found = collected(model, batches)
    query, key, output = (
        found[f"encoder.layer.0.attention.{each}"] for each in ("self.query", "self.key", "output.dense")
    )
    assert query is key
    assert query is not output


def test_several_passes_give_the_same() -> None:
    model, batches = models.bert(), models.token_batches()
    one, several = collected(model, batches), collected(model, batches, memory=1)
    assert one.keys() == several.keys()
    assert all(np.array_equal(one[name].covariance, several[name].covariance) for name in one if "embed" not in name)


def test_passes_fit_into_the_memory() -> None:
    model, batches = models.bert(), models.token_batches()
    groups = groups_of(model, [each for each in find(model) if each.kind in ("linear", "embedding")], batches[0])
    memory = max(each.bytes for each in groups) * 2
    parts = list(passes_of(groups, memory))
    assert len(parts) > 2
    assert all(sum(each.bytes for each in part) <= memory for part in parts)
    assert list(itertools.chain(*parts)) == groups


def test_patches_of_a_convolution() -> None:
    """Oracle: the convolution itself, whose outputs are the weight times the patches."""
    model = nn.Sequential(nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2))
    x = torch.randn(3, 4, 9, 8)
    (moments,) = collected(model, [x]).values()
    y = model(x).double().detach() - model[0].bias.double().detach()[:, None, None]
    weight = model[0].weight.double().detach().flatten(1).numpy()
    means = np.concatenate([weight[:3] @ moments.mean, weight[3:] @ moments.mean])
    pooled = y.mean((0, 2, 3)).numpy()
    halves = x[:, :2], x[:, 2:]  # the moments pool both groups, so each group alone has to be asked
    for index, half in enumerate(halves):
        alone = nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2))
        alone.load_state_dict({"weight": model[0].weight[3 * index : 3 * index + 3], "bias": model[0].bias[:3]})
        (own,) = collected(nn.Sequential(alone), [half]).values()
        assert np.allclose(weight[3 * index : 3 * index + 3] @ own.mean, pooled[3 * index : 3 * index + 3], atol=1e-6)
        variances = np.einsum("ij,jk,ik->i", weight[3 * index :][:3], own.covariance, weight[3 * index :][:3])
        expected = y[:, 3 * index : 3 * index + 3].var((0, 2, 3), correction=0).numpy()
        assert np.allclose(variances, expected, atol=1e-6)
    assert means.shape == (6,)
    assert moments.count == 2 * own.count


def test_path_that_differs_between_batches() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.one(x) + self.two(x if x.shape[0] == 2 else x * 2)  # type: ignore[no-any-return]

    with pytest.raises(UsageError, match="the layers that share the input of one differ between batches"):
        collected(Branches(), [torch.randn(2, 4), torch.randn(3, 4)])


def test_layer_with_values_that_are_not_finite_is_named() -> None:
    x = torch.ones(2, 32)
    x[1, 3] = float("nan")
    with pytest.raises(UsageError, match=r"0: .*NaN or infinite"):
        edgefc.replace(models.mlp(), LowRank(), calibration=[torch.ones(2, 32), x, torch.ones(2, 32)])


def test_layers_that_do_not_run_are_reported() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.other = nn.Linear(32, 32), nn.Linear(32, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    report = edgefc.replace(Unused(), LowRank(), calibration=models.batches(3))
    assert "other got no inputs, or only padding, so that it was fitted to its weight alone." in report.warnings


class Interrupting(nn.Sequential):
    """An MLP that raises at a call, as an interruption does."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 6:  # held-out batch, groups, then the fourth batch
            raise KeyboardInterrupt
        return super().forward(x)  # type: ignore[no-any-return]


def test_interrupted_pass_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "_EVERY_S", 0.0)
    data, folder = models.batches(8), tmp_path / "statistics"
    model = Interrupting(*models.mlp())
    with pytest.raises(KeyboardInterrupt):
        edgefc.replace(model, LowRank(rank=3), calibration=data, statistics=folder)
    with np.load(folder / "pass-0.npz") as file:
        assert int(file["done"]) == 3
    before = model.calls
    edgefc.replace(model, LowRank(rank=3), calibration=data, statistics=folder)
    assert model.calls - before == 1 + 1 + 4 + 1
    whole = models.mlp()
    edgefc.replace(whole, LowRank(rank=3), calibration=data)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(), strict=True))


def test_statistics_of_another_model_or_damaged(tmp_path: Path) -> None:
    edgefc.replace(models.mlp(), LowRank(), calibration=models.batches(3), statistics=tmp_path)
    with pytest.raises(UsageError, match=r"pass-0.npz has statistics of another model, plan or data"):
        edgefc.replace(models.mlp(), LowRank(), calibration=models.batches(4), statistics=tmp_path)
    (tmp_path / "pass-0.npz").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"cannot read .*pass-0.npz"):
        edgefc.replace(models.mlp(), LowRank(), calibration=models.batches(3), statistics=tmp_path)


RANK = """
import sys, torch, edgefc
from tests.support import compress_models as models
rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
data = models.batches(8)
share = [[*data[:2], data[7]], [*data[2:7], data[7]]][rank]  # the last batch of each is held out
model = models.mlp()
edgefc.replace(model, edgefc.plan.LowRank(rank=5), calibration=share)
torch.save(model.state_dict(), out)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    """Each rank reads its own share. Both get the same layers, which are those of one process with all data."""
    files = [tmp_path / f"{rank}.pt" for rank in range(2)]
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path / "store"), str(file)], cwd=ROOT)
        for rank, file in enumerate(files)
    ]
    assert [each.wait(timeout=300) for each in ranks] == [0, 0]
    first, second = (torch.load(file, weights_only=True) for file in files)
    data, model = models.batches(8), models.mlp()
    edgefc.replace(model, LowRank(rank=5), calibration=data)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for at in ("0", "2"):
        layer = model.get_submodule(at)
        assert torch.allclose(first[f"{at}.up"] @ first[f"{at}.down"], layer.up @ layer.down, atol=1e-5)
        assert torch.allclose(first[f"{at}.bias"], layer.bias, atol=1e-5)


def test_targets_compare_by_identity() -> None:
    linear = nn.Linear(2, 2)
    assert Target(("a",), linear, "linear") != Target(("a",), linear, "linear")
