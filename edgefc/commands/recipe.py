"""edgefc recipe NAME [-o FOLDER] [--seeds N] [--data FOLDER] [--quick]

Run a small experiment: a layer family beside dense layers, one of them of the same size.

    edgefc recipe --list
    edgefc recipe circulant-mlp

Each recipe trains every kind of model with several seeds on data that Python packages ship, in a few minutes on one
core. The table shows parameters, mean and standard deviation; the sentences below it name a difference only where the
spread carries it. Small data shows sanity, not reproduction of a paper; --data FOLDER takes the paper's own data set
where you have it (--list says which), with the same small models.

FOLDER holds summary.json, table.md, plot.png and the finished trainings; when stopped, the same command goes on from
them. A folder that holds other things is left alone. --quick runs a few steps, to see that everything works.
"""

import argparse
import importlib
from pathlib import Path

from edgefc.options import seeds

TASK = "learn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the recipe; --list shows them")
    parser.add_argument("--list", action="store_true", help="show the recipes and end")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="where everything goes (default: edgefc-recipes/NAME)"
    )
    parser.add_argument("--seeds", type=seeds, metavar="N", help="trainings of each kind (default: the recipe's)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the paper's data set instead of the bundled data")
    parser.add_argument("--quick", action="store_true", help="2 seeds and a few steps: does it run?")


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import UsageError, needs_extra

    with needs_extra("recipes", "edgefc recipe"):
        for package in ("torch", "sklearn.datasets", "scipy.stats", "skimage.data", "matplotlib.figure", "PIL.Image"):
            importlib.import_module(package)
    from edgefc.recipes.found import recipe, recipes
    from edgefc.recipes.harness import run

    if args.list:
        _list()
    elif args.name is None:
        raise UsageError(f"no recipe was named. Choose one of: {', '.join(recipes())}; --list tells more.")
    else:
        chosen = recipe(args.name)
        run(chosen, args.output or Path("edgefc-recipes") / chosen.name, args.seeds, args.data, args.quick)
    return 0


def _list() -> None:
    from edgefc.recipes.found import recipes
    from edgefc.tables import print_table

    columns = ("recipe", "paper", "bundled data", "--data takes", "minutes", "question")
    found = recipes().values()
    print_table(columns, [(r.name, r.paper, r.bundled, r.wanted, f"{r.minutes:g}", r.question) for r in found], left=6)
