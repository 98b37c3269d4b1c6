"""edgefc compress on MiniLM-L6, its token table included, without training.

    python tests/bench/compressed.py minilm FOLDER [--budget 1/4,1/7,1/10]
    python tests/bench/compressed.py correlation FOLDER [--plans 20]

minilm: runs edgefc compress, export and verify for each budget of bytes, as a user does, and compares the sentence
embeddings of the exported file in onnxruntime with those of the torch model, on sentences of other modules (minilm.py).
All budgets use one work folder, so that the layers are measured once.
correlation: rank correlation of the summed swap losses with the measured loss, on random plans in which every layer is
replaced. Uses the results of `minilm` in the folder if they are there.

The figures are in edgefc/compressing/README.md.
"""

import argparse
import json
import random
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from minilm import batches, embeddings, model_and_tokenizer, sentences
from replaced import dense_file, edgefc, file_bytes, file_embeddings, write_data

from edgefc.tables import print_table

SOURCE = f"{Path(__file__).with_name('replaced.py')}:minilm"
LEAST = {Fraction(1, 4): 0.998, Fraction(1, 7): 0.985, Fraction(1, 10): 0.94}


def run_minilm(folder: Path, budgets: list[Fraction]) -> None:
    if not (data := folder / "data.npz").exists():
        write_data(data)
    original, tokenizer = model_and_tokenizer()
    encoded = list(batches(tokenizer, sentences()[1]))
    truth = embeddings(original, encoded)
    dense = file_bytes(dense_file(folder))
    rows = []
    for budget in budgets:
        name = f"bytes-{budget.denominator}"
        small, file, record = folder / name, folder / f"{name}.onnx", folder / f"{name}.json"
        costs = [
            edgefc("compress", SOURCE, "--budget", f"bytes={float(budget):.6f}", "--calibration", data, "-o", small,
                   "--work", folder / "work", "--json", record, "--plot", folder / f"{name}.svg"),
            edgefc("export", SOURCE, "--weights", small, "-o", file),
            edgefc("verify", file, SOURCE, "--weights", small),
        ]  # fmt: skip
        cosines = [float((file_embeddings(file, encoded, native) * truth).sum(1).mean()) for native in ("auto", "off")]
        report = json.loads(record.read_text())
        rival = min((each for each in report["uniform"] if each["within"]), key=lambda each: each["loss"])
        least = LEAST.get(budget, 0.0)
        rows.append([str(budget), f"{file_bytes(file):,}", f"{dense / file_bytes(file):.2f}x",
                     *(f"{each:.5f}" for each in cosines), f"{least or ''}", f"{report['stages'][-1]['loss']:.5f}",
                     f"{rival['name']}: {rival['loss']:.5f}", *map(str, costs)])  # fmt: skip
        print(*rows[-1], sep=" | ", flush=True)
        assert min(cosines) >= least, rows[-1]
    print_table(("budget", "file bytes", "ratio", "cosine", "standard ONNX", "at least", "loss", "best uniform",
                 "compress", "export", "verify"), rows, left=1)  # fmt: skip


def run_correlation(folder: Path, count: int) -> None:
    from edgefc.choosing.store import Store
    from edgefc.choosing.sweeping import sweep
    from edgefc.compressing.layers import layers_of
    from edgefc.compressing.samples import samples_of
    from edgefc.compressing.subject import TorchSubject
    from edgefc.replacing.calibration import read_batches
    from edgefc.replacing.statistics import MEMORY
    from edgefc.replacing.surgery import Surgery

    if not (data := folder / "data.npz").exists():
        write_data(data)
    model, _ = model_and_tokenizer()
    samples, work = samples_of(read_batches(data, model)), folder / "work"
    with Surgery(model) as surgery:
        subject = TorchSubject(surgery, layers_of(model, None), samples, memory=MEMORY, folder=work / "statistics")
        store = Store(work, subject)
        swaps = sweep(subject, store)
        draw, predicted, measured = random.Random(0), [], []
        for _ in range(count):
            chosen = [draw.choice(own) for own in swaps.values()]
            predicted.append(sum(each.loss for each in chosen))
            measured.append(store.loss({each.unit: each.configuration for each in chosen}))
            print(f"{predicted[-1]:.4f} {measured[-1]:.4f}", flush=True)
    print(f"rank correlation on {count} random plans: {correlation(predicted, measured):.3f}")


def correlation(a: list[float], b: list[float]) -> float:
    """Spearman's."""
    ranks = [np.argsort(np.argsort(each)) for each in (a, b)]
    return float(np.corrcoef(ranks)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("minilm", "correlation"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", default="1/4,1/7,1/10", help="parts of the bytes, with commas between")
    parser.add_argument("--plans", type=int, default=20, help="random plans")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.what == "minilm":
        run_minilm(args.folder, [Fraction(each) for each in args.budget.split(",")])
    else:
        run_correlation(args.folder, args.plans)


if __name__ == "__main__":
    main()
