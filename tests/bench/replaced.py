"""edgefc replace on whole models, by the commands that a user runs, each in its own process.

    python tests/bench/replaced.py minilm FOLDER [--only int4,table]
    python tests/bench/replaced.py random FOLDER [--only bert,gpt2]
    python tests/bench/replaced.py latency FOLDER

minilm: MiniLM-L6 without training. Writes data.npz (calibration) and a plan for each case to FOLDER, runs edgefc
replace, export and verify, and compares the embeddings of small.onnx in onnxruntime with those of the torch model, on
sentences of other modules (minilm.py). "ratio" is that of the bytes of the layers that the plan names, in float32 and
in the file: what small.onnx has beyond the rest of dense.onnx. For "whole" it is that of the two files.
random: models from transformers configs with random weights, without calibration.
latency: edgefc profile of MiniLM files, one thread. Needs the files of `minilm`.

Each row has the wall time, the CPU time and the peak memory of each command. The figures are in
edgefc/replacing/README.md.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from minilm import LONGEST, batches, embeddings, linears, model_and_tokenizer, sentences

from edgefc.tables import print_table

ENCODER, TABLE = "encoder.*", "embeddings.word_embeddings"


@dataclass(frozen=True)
class Case:
    """rules: pairs of a pattern and what its layers become, as in TOML; whole: the ratio is that of the whole file."""

    name: str
    rules: tuple[tuple[str, str], ...]
    least: float = 0.0
    whole: bool = False


CASES = (
    Case("half", ((ENCODER, '"Half"'),)),
    Case("int8", ((ENCODER, '"Int8"'),), 0.999),
    Case("int4", ((ENCODER, '{ kind = "Int4", rotate = false }'),)),
    Case("int4-rotated", ((ENCODER, '"Int4"'),), 0.990),
    Case("int3-rotated", ((ENCODER, '"Int3"'),), 0.955),
    Case("int2-corrected", ((ENCODER, '{ kind = "Int2", group = 64, rank = 8 }'),), 0.87),
    Case("int4-everywhere", ((ENCODER, '"Int4"'), ("embeddings.*", '"Int4"'), ("pooler.*", '"Int4"')), 0.985, True),
    Case("lowrank-2x", ((ENCODER, '{ kind = "LowRank", ratio = 2 }'),), 0.70),
    Case("lowrank-4x", ((ENCODER, '{ kind = "LowRank", ratio = 4 }'),)),
    Case("lowrank-2x-int8", ((ENCODER, '{ kind = "LowRank", ratio = 2, storage = "int8" }'),)),
    Case("table-4x", ((TABLE, '{ kind = "LowRank", ratio = 4 }'),), 0.85),
)


def minilm() -> tuple[nn.Module, tuple]:
    """MiniLM-L6 with two example sentences."""
    model, _ = model_and_tokenizer()
    ids = torch.arange(2 * 16).reshape(2, 16) + 2000
    return model, (ids, torch.ones_like(ids))


def bert() -> tuple[nn.Module, tuple]:
    from transformers import BertConfig, BertModel

    ids = torch.arange(2 * 16).reshape(2, 16) + 2000
    return _seeded(BertModel, BertConfig()), (ids, torch.ones_like(ids))


def vit() -> tuple[nn.Module, tuple]:
    from transformers import ViTConfig, ViTModel

    return _seeded(ViTModel, ViTConfig()), (torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)),)


def gpt2() -> tuple[nn.Module, tuple]:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = _seeded(GPT2LMHeadModel, GPT2Config(use_cache=False))
    return model, (torch.arange(2 * 16).reshape(2, 16) + 2000,)


def llama() -> tuple[nn.Module, tuple]:
    """About 100 million numbers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=32000, hidden_size=640, intermediate_size=1728, num_hidden_layers=12,
                         num_attention_heads=10, num_key_value_heads=5, use_cache=False)  # fmt: skip
    return _seeded(LlamaForCausalLM, config), (torch.arange(2 * 16).reshape(2, 16) + 2000,)


def _seeded(cls, config) -> nn.Module:
    torch.manual_seed(0)
    return cls(config).eval()


RANDOM = (
    ("bert", "int4", (("encoder.*", '"Int4"'),)),
    ("bert", "circulant", (("encoder.*", '{ kind = "Circulant", block = 64 }'),)),
    ("vit", "int4", (("*layer*", '"Int4"'),)),
    ("gpt2", "int4", (("transformer.h.*", '"Int4"'),)),
    ("llama", "int4", (("model.layers.*", '"Int4"'),)),
)


@dataclass
class Cost:
    """Of one command: wall and CPU time in s, peak memory in bytes."""

    wall: float
    cpu: float
    peak: int

    def __str__(self) -> str:
        return f"{self.wall:.0f} s ({self.cpu:.0f} s CPU), {self.peak / 1e6:,.0f} MB"


def edgefc(*words: object) -> Cost:
    """Runs a command, and ends the program if it fails."""
    command = [sys.executable, "-m", "edgefc", *map(str, words), "--force"]
    print("edgefc", *command[3:-1], flush=True)
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"failed: {process.returncode}")
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def write_plan(path: Path, rules) -> None:
    path.write_text("".join(f'[[rules]]\nmatch = "{match}"\nto = {to}\n\n' for match, to in rules))


def write_data(path: Path) -> None:
    """The calibration sentences, filled up to one length."""
    _, tokenizer = model_and_tokenizer()
    lines = sentences()[0]
    encoded = tokenizer(lines, padding=True, truncation=True, max_length=LONGEST, return_tensors="np")
    np.savez(path, input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])


def replaced(source: str, folder: Path, name: str, rules, calibration: Path | None = None) -> list[Cost]:
    """Runs replace, export and verify. Writes FOLDER/NAME/ and FOLDER/NAME.onnx."""
    plan, small, file = folder / f"{name}.toml", folder / name, folder / f"{name}.onnx"
    write_plan(plan, rules)
    data = [] if calibration is None else ["--calibration", calibration]
    source = f"{__file__}:{source}"
    return [
        edgefc("replace", source, "--plan", plan, *data, "-o", small, "--json", folder / f"{name}.json"),
        edgefc("export", source, "--weights", small, "-o", file),
        edgefc("verify", file, source, "--weights", small),
    ]


def file_bytes(file: Path) -> int:
    """With the weights file beside it."""
    return sum(each.stat().st_size for each in file.parent.glob(f"{file.stem}*") if each.match(f"{file.stem}.onnx")
               or each.match(f"{file.stem}-????????????.onnx.data"))  # fmt: skip


def file_embeddings(file: Path, encoded: list, native: str) -> torch.Tensor:
    from edgefc.runtime import Session

    session = Session(file, native=native)

    def model(**batch):
        hidden = session.run({each.name: batch[each.name].numpy() for each in session.inputs})[session.outputs[0].name]
        return argparse.Namespace(last_hidden_state=torch.from_numpy(hidden))

    return embeddings(model, encoded)


def dense_file(folder: Path) -> Path:
    if not (file := folder / "dense.onnx").exists():
        edgefc("export", f"{__file__}:minilm", "-o", file)
    return file


def run_minilm(folder: Path, wanted: list[str]) -> None:
    write_data(data := folder / "data.npz")
    original, tokenizer = model_and_tokenizer()
    encoded = list(batches(tokenizer, sentences()[1]))
    truth = embeddings(original, encoded)
    dense = dense_file(folder)
    sizes = {ENCODER: sum(each.weight.numel() for each in linears(original).values()),
             TABLE: original.embeddings.word_embeddings.weight.numel()}  # fmt: skip
    rows = []
    for case in CASES:
        if not any(part in case.name for part in wanted):
            continue
        costs = replaced("minilm", folder, case.name, case.rules, data)
        size = file_bytes(file := folder / f"{case.name}.onnx")
        named = file_bytes(dense) if case.whole else sum(4 * sizes[match] for match, _ in case.rules)
        ratio = named / (size - (file_bytes(dense) - named))
        cosines = [float((file_embeddings(file, encoded, native) * truth).sum(1).mean()) for native in ("auto", "off")]
        rows.append([case.name, f"{size:,}", f"{ratio:.2f}x", *(f"{each:.5f}" for each in cosines),
                     f"{case.least or ''}", *map(str, costs)])  # fmt: skip
        print(*rows[-1], sep=" | ", flush=True)
        assert min(cosines) >= case.least, rows[-1]
    columns = ("case", "file bytes", "ratio", "cosine", "standard ONNX", "at least", "replace", "export", "verify")
    print_table(columns, rows, left=1)


def run_random(folder: Path, wanted: list[str]) -> None:
    rows = []
    for source, name, rules in RANDOM:
        if any(part in f"{source}-{name}" for part in wanted):
            costs = replaced(source, folder, f"{source}-{name}", rules)
            rows.append([f"{source} {name}", f"{file_bytes(folder / f'{source}-{name}.onnx'):,}", *map(str, costs)])
    print_table(("model", "file bytes", "replace", "export", "verify"), rows, left=1)


def run_latency(folder: Path, _wanted: list[str]) -> None:
    dense_file(folder)
    files = [folder / f"{name}.onnx" for name in ("dense", "int8", "int4", "int4-rotated", "lowrank-4x")]
    for batch in (1, 8):
        for tokens in (16, 64):
            print("load:", os.getloadavg())
            edgefc("profile", *files, "--batch", batch, "--threads", 1, "--no-memory",
                   "--shape", f"input_ids=?x{tokens}", "--shape", f"attention_mask=?x{tokens}",
                   "--range", "input_ids=0:30521")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("minilm", "random", "latency"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="parts of names of cases, with commas between (default: all)")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    {"minilm": run_minilm, "random": run_random, "latency": run_latency}[args.what](args.folder, args.only.split(","))


if __name__ == "__main__":
    main()
