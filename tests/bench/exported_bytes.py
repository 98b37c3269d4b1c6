"""Print the SHA-256 of the exported file of every catalogue entry, to compare two commits.

    python tests/bench/exported_bytes.py > after.txt        # in one checkout
    python tests/bench/exported_bytes.py > before.txt       # in the other
    diff before.txt after.txt

Each entry is exported at two widths with weights from one seed, at opset 20 and without verification. A layer whose
operator has several bodies is exported with each of them. One thread is used, because sums depend on the number of
threads.
"""

import hashlib
import inspect
import tempfile
from pathlib import Path
from typing import Any

import torch

from edgefc.catalogue import Called, entries
from edgefc.export import export

WIDTHS = (32, 48)
OLD = "bodies" not in inspect.signature(export).parameters  # before export(bodies=)
BODIES: tuple[dict[str, str], ...] = (
    {"CirculantLinear": "matmul", "PRPLinear": "resident"},
    {"CirculantLinear": "dft", "PRPLinear": "streaming"},
)


def options(bodies: dict[str, str]) -> dict[str, Any]:
    return {"circulant": bodies["CirculantLinear"], "prp": bodies["PRPLinear"]} if OLD else {"bodies": bodies}


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for entry in entries():
            for width in WIDTHS:
                for bodies in BODIES:
                    torch.manual_seed(0)
                    model, x = Called(entry, entry.make(width)).eval(), entry.example(width)
                    path = Path(folder) / "m.onnx"
                    export(model, x, path, verify=False, **options(bodies))
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                    print(f"{entry.name}, {width}, {bodies['CirculantLinear']}, {bodies['PRPLinear']}: {digest}")


if __name__ == "__main__":
    main()
