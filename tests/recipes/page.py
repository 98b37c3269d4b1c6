"""edgefc/recipes/README.md, from the results in measured/ beside it:

python -m tests.recipes.page > edgefc/recipes/README.md
"""

import sys

from edgefc.recipes.measured import measured
from edgefc.recipes.report import markdown
from edgefc.recipes.results import Results
from edgefc.screen import out, run

HEAD = """\
# Recipes

Small experiments, one or more for each layer family. Each compares a structured layer with the dense layer that it
replaces. Most also compare it with a plain layer of the same size. The data are contained in Python packages; the
recipes whose names begin with mnist download 10,000 digits of MNIST once (5 MB).
`python -m tests.recipes.page` writes this page from the results in [measured](measured). Each result is the
`summary.json` that the command wrote to its folder. Its texts follow the wording of the code; its numbers are
unchanged.

    pip install 'edgefc[recipes]'
    edgefc recipe --list

[Training with structured layers](TRAINING.md) has what follows from the recipes that train with a tenth of the numbers.

Small data shows that a layer trains and what it costs in size. It does not reproduce a paper.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(results) for results in measured().values())]).rstrip() + "\n"


def _section(results: Results) -> str:
    return f"## {results.recipe}\n\n{results.paper}\n\n    edgefc recipe {results.recipe}\n\n{markdown(results)}"


def main() -> int:
    """Print the page."""
    out(*page().rstrip("\n").split("\n"))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
