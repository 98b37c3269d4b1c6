"""python -m tests.attack KIND [KIND ...] [--count N] [--step N] [--seed S] [--minutes M] [--jobs N] [--case N]

Run the cases of each kind. Print the number of answers, sentences and faults, and the command that repeats each of the
first faults. The exit code is 1 if there is a fault. Without --count, all cases of each kind are run.
"""

import argparse
import importlib
import json
import pkgutil
import sys
import tempfile
from pathlib import Path

import tests.attack
from tests.attack.harness import Kind, adopt
from tests.attack.report import as_json, one, shown
from tests.attack.runner import run_all


def kinds() -> list[str]:
    names = [module.name for module in pkgutil.iter_modules(tests.attack.__path__) if module.name != "__main__"]
    return [name for name in names if hasattr(importlib.import_module(f"tests.attack.{name}"), "COUNT")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__.partition("\n\n")[2])
    parser.add_argument("kinds", nargs="+", metavar="KIND", help="all, or some of: " + ", ".join(kinds()))
    parser.add_argument("--count", type=int, metavar="N", help="cases of each kind (default: the full attack)")
    parser.add_argument("--step", type=int, default=1, metavar="N", help="run only every N-th case (default: 1)")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--minutes", type=float, default=600, metavar="M", help="stop each kind after this long")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cases at the same time (default: 1)")
    parser.add_argument("--case", type=int, metavar="N", help="only this case, with what it printed")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every case's outcome here")
    given = parser.parse_args()
    adopt()
    faults, record = 0, {}
    with tempfile.TemporaryDirectory(prefix="edgefc-attack-") as place:
        for name in kinds() if given.kinds == ["all"] else given.kinds:
            module = importlib.import_module(f"tests.attack.{name}")
            kind = Kind(module, given.seed, Path(place, name))
            kind.folder.mkdir()
            kind.prepare()
            if given.case is not None:
                results = [kind.run(given.case)]
                print(one(results[0]))
            else:
                numbers = range(0, module.COUNT if given.count is None else given.count, given.step)
                results = run_all(kind, numbers, given.minutes, given.jobs)
                print(shown(name, given.seed, results), flush=True)
            faults += sum(each.outcome.is_fault for each in results)
            record[name] = as_json(given.seed, results)
    if given.json is not None:
        given.json.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
