"""edgefc.distil on MiniLM-L6, after edgefc.replace.

    python tests/bench/distilled.py FOLDER [--only lowrank,whole] [--minutes 10] [--threads 2] [--cpu-clock]

Trains each case on docstrings of the modules that the calibration sentences come from, without those of the test, and
prints the cosine of the sentence embeddings to those of the original model, on the test sentences of other modules,
before and after. FOLDER keeps the replaced models and the state of each training, so that an interrupted run goes on.

--cpu-clock counts CPU time divided by two, which is the wall time on two cores with nothing else to do. For a machine
that other programs use.
"""

import argparse
import copy
import json
import os
import random
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import minilm

import edgefc
from edgefc.plan import Int2, Int3, Int4, LowRank
from edgefc.replacing.saving import is_saved
from edgefc.training import schedule

SENTENCES, BATCH = 8000, 32
TABLE = "embeddings.word_embeddings"
CASES = {
    "lowrank": ({"encoder.*": LowRank(ratio=2)}, 0.85),
    "int3": ({"encoder.*": Int3()}, 0.0),
    "int2": ({"encoder.*": Int2(group=64, rank=8)}, 0.0),
    "whole": ({"encoder.*": Int2(group=64, rank=4), "pooler.*": Int2(group=64), TABLE: Int2(group=64),
               "embeddings.*": Int4()}, 0.90),  # 6,891,048 bytes of 90,852,864
}  # fmt: skip
"""The plan of each case, and the least cosine after training."""


def data(tokenizer) -> tuple[list[dict], list[dict], list]:
    """Batches for calibration, for training and for the test."""
    calibration, test = minilm.sentences()
    minilm.CALIBRATION = 8798  # all of these modules
    more = [line for line in minilm.sentences()[0] if line not in set(test)][:SENTENCES]
    train = [dict(each) for each in minilm.batches(tokenizer, more, BATCH)]
    random.Random(0).shuffle(train)
    return [dict(each) for each in minilm.batches(tokenizer, calibration)], train, list(minilm.batches(tokenizer, test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(CASES), help="names of cases, with commas between (default: all)")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-clock", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.cpu_clock:
        schedule.clock = lambda: time.process_time() / 2
    teacher, tokenizer = minilm.model_and_tokenizer()
    calibration, train, test = data(tokenizer)
    truth = minilm.embeddings(teacher, test)

    def cosine(model) -> float:
        return float((minilm.embeddings(model, test) * truth).sum(1).mean())

    for name in args.only.split(","):
        plan, least = CASES[name]
        small = args.folder / name
        if not is_saved(small):
            model = copy.deepcopy(teacher)
            edgefc.replace(model, plan, calibration=calibration)
            edgefc.save(model, small)
        student = edgefc.load(small, lambda: copy.deepcopy(teacher))
        size = (small / "weights.safetensors").stat().st_size
        before, start, cpu = cosine(student), time.perf_counter(), time.process_time()
        report = edgefc.distil(
            student, teacher, train, minutes=args.minutes, amp=True, folder=args.folder / f"{name}-state"
        )
        after = cosine(student)
        edgefc.save(student, args.folder / f"{name}-trained")
        (args.folder / f"{name}-trained.json").write_text(json.dumps(report.record(), indent=1))
        wall, used = time.perf_counter() - start, time.process_time() - cpu
        print(
            f"{name}: {size:,} bytes, cosine {before:.4f} -> {after:.4f}, {report.steps} steps, "
            f"{report.epochs:.2f} epochs, "
            f"lr {report.lr:g} of {[(rate, round(each.loss, 4)) for rate, each in report.tried]}, wall {wall:.0f} s, "
            f"CPU {used:.0f} s, load {os.getloadavg()[0]:.1f}, stopped: {report.stopped}",
            flush=True,
        )  # fmt: skip
        assert after >= least, (name, after, least)


if __name__ == "__main__":
    main()
