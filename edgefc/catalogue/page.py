"""The catalogue as a markdown page."""

import re
from collections.abc import Sequence

from edgefc.catalogue.rows import COLUMNS, LEFT, Row, cells
from edgefc.tables import markdown_table

_HEAD = """# Every layer

`edgefc layers --markdown` generates this page, and a test compares it with the code. Numbers are trained parameters.
Multiply-adds are those of the algorithm for one input row, one position of an image or one step of a sequence. An
`.onnx` body may do more: [export/README.md](../../export/README.md) lists the bodies that expand to a dense weight when
the runtime loads the file. Claims are those of the papers, as far as we know them. Recipes train on small data: they
show that a layer trains, and do not reproduce a paper. [Their page](../recipes/README.md) has the results with
their spread.

"""


def markdown(rows: Sequence[Row]) -> str:
    table = markdown_table(COLUMNS, [cells(row) for row in rows], left=LEFT)
    return _HEAD + re.sub(r"arXiv ([\d.]+)", r"[arXiv \1](https://arxiv.org/abs/\1)", table) + "\n"
