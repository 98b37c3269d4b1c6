"""One of two gloo processes: distil() under DDP and FSDP, against one process that accumulates the batches of both.

    python -m tests.support.distilling RANK STORE_FILE

prints nothing and ends with 0 when all ranks have the weights of one process.
"""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import edgefc
from edgefc.training import checkpoint, ranks
from tests.support import compress_models as models

WORLD, STEPS = 2, 6
PLAN = {"0": edgefc.plan.Int2(), "2": edgefc.plan.LowRank(ratio=4)}


def batches() -> list[Tensor]:
    """Of one batch for each rank: in this order the ranks see the same as one process that accumulates them."""
    return models.batches(WORLD)


def pair() -> tuple[nn.Module, nn.Module]:
    """The same on each rank: fitted to the weights alone."""
    teacher = models.mlp()
    student = copy.deepcopy(teacher)
    edgefc.replace(student, PLAN, init="new")
    for name, each in student.state_dict().items():  # initial values are random
        if each.is_floating_point():
            each.copy_(torch.linspace(-0.1, 0.1, each.numel()).roll(len(name)).reshape(each.shape))
    return student, teacher


def train(student: nn.Module, teacher: nn.Module, own: list[Tensor], **options: Any) -> Any:
    return edgefc.distil(student, teacher, own, steps=STEPS, lr=1e-3, held_out=models.batches(2, seed=9), **options)


def fsdp2(model: nn.Module) -> nn.Module:
    fully_shard(model, mesh=init_device_mesh("cpu", (WORLD,)))
    return model


def fsdp1(model: nn.Module) -> nn.Module:
    return FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)


def whole(model: nn.Module) -> dict[str, Tensor]:
    """The state of all ranks."""
    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(model):
            return {name.replace("_fsdp_wrapped_module.", ""): each.clone() for name, each in state(model).items()}
    return {
        name.removeprefix("module."): each.full_tensor() if isinstance(each, DTensor) else each
        for name, each in state(model).items()
    }


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.detach() for name, each in [*model.named_parameters(), *model.named_buffers()]}


def compare(name: str, student: nn.Module, expected: dict[str, Tensor]) -> None:
    for key, each in whole(student).items():
        if each.numel():
            torch.testing.assert_close(
                each, expected[key], atol=2e-5, rtol=1e-4, msg=lambda text, key=key: f"{name} {key} {text}"
            )


def check(name: str, wrap: Callable[[nn.Module], nn.Module], rank: int, expected: dict[str, Tensor]) -> None:
    student, teacher = pair()
    wrapped = wrap(student)
    report = train(wrapped, teacher, batches()[rank : rank + 1])
    assert report.after.step > 0, name
    compare(name, wrapped, expected)


def check_resumed(rank: int, expected: dict[str, Tensor], folder: Path) -> None:
    """A training that was killed when one rank had written its state and the other had not."""
    checkpoint._EVERY_S, checkpoint._SHARE = 0.0, 0
    write, student = checkpoint.Store.write, pair()[0]

    def killed(store: Any, tensors: Any, record: Any) -> None:
        if record["step"] == 4 and ranks.rank() == 1:
            raise KeyboardInterrupt
        if record["step"] == 4:
            checkpoint.ranks.agreed = lambda number: number  # type: ignore[attr-defined]
        write(store, tensors, record)
        if record["step"] == 4:
            raise KeyboardInterrupt

    agreed = ranks.agreed
    checkpoint.Store.write = killed  # type: ignore[method-assign]
    try:
        train(DistributedDataParallel(student), pair()[1], batches()[rank : rank + 1], folder=folder)
        raise AssertionError("was not killed")
    except KeyboardInterrupt:
        pass
    finally:
        checkpoint.Store.write, ranks.agreed = write, agreed  # type: ignore[method-assign]
    again = DistributedDataParallel(pair()[0])
    train(again, pair()[1], batches()[rank : rank + 1], folder=folder)
    compare("resumed", again, expected)


def main(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    alone, teacher = pair()
    train(alone, teacher, batches(), accumulate=WORLD)
    expected = whole(alone)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    try:
        check("plain", lambda model: model, rank, expected)
        check("DDP", DistributedDataParallel, rank, expected)
        check("FSDP2", fsdp2, rank, expected)
        check("FSDP1", fsdp1, rank, expected)
        check_resumed(rank, expected, Path(store).parent / "state")
        dist.barrier()
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
