"""edgefc recipe NAME [-o FOLDER] [--seeds N] [--data FOLDER] [--quick]

Run a small experiment that compares a layer family with dense layers, one of them of the same size.

    edgefc recipe --list
    edgefc recipe circulant-mlp

Each recipe trains every kind of model with several seeds, on data that Python packages contain, or on 10,000 digits of
MNIST that are downloaded once. This takes a few minutes on one core. The table shows the number of parameters and the
mean and standard deviation of the metric. The sentences below the table state a difference only if it is statistically
significant.

Small data shows that a layer trains. It does not reproduce a paper. If you have the data set of the paper, pass it as
--data FOLDER; --list shows the accepted formats. The size of the models does not change.

    edgefc recipe circulant-mlp --data mnist/

FOLDER (-o) contains summary.json, table.md, plot.png and the finished trainings. If the command is interrupted, run it
again to continue. A folder with other contents is not changed. --quick runs only a few steps, to test the setup.
"""

import argparse
import importlib
from pathlib import Path

from edgefc.options import seeds

TASK = "learn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a recipe; --list shows all")
    parser.add_argument("--list", action="store_true", help="list the recipes and exit")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="folder for all results (default: edgefc-recipes/NAME)"
    )
    parser.add_argument(
        "--seeds", type=seeds, metavar="N", help="number of trainings of each kind (default: set by the recipe)"
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the paper's data set instead of the bundled data")
    parser.add_argument("--quick", action="store_true", help="only 2 seeds and a few steps, to test the setup")


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import UsageError, needs_extra

    with needs_extra("recipes", "edgefc recipe"):
        for package in ("torch", "sklearn.datasets", "scipy.stats", "skimage.data", "matplotlib.figure", "PIL.Image"):
            importlib.import_module(package)
    from edgefc.recipes.harness import run
    from edgefc.recipes.registry import recipe, recipes

    if args.list:
        _list()
    elif args.name is None:
        raise UsageError(f"a recipe is required. Choose one of: {', '.join(recipes())}. --list describes them.")
    else:
        chosen = recipe(args.name)
        run(chosen, args.output or Path("edgefc-recipes") / chosen.name, args.seeds, args.data, args.quick)
    return 0


def _list() -> None:
    from edgefc.recipes.registry import recipes
    from edgefc.tables import print_table

    columns = ("recipe", "paper", "bundled data", "--data accepts", "minutes", "question")
    rows = [(r.name, r.paper, r.bundled, r.wanted, f"{r.minutes:g}", r.question) for r in recipes().values()]
    print_table(columns, rows, left=6)
