"""The catalogue as a page."""

import re
from collections.abc import Sequence

from edgefc.catalogue.rows import COLUMNS, LEFT, Row, cells
from edgefc.tables import markdown_table

_HEAD = """# Every layer

Written by `edgefc layers --markdown`; a test holds it to the code. Numbers are what is trained; multiply-adds are those
of one input row, one position of an image or one step of a sequence, by the arithmetic of the algorithm (an `.onnx`
body may do more: [export/README.md](../../export/README.md) says which expand to a dense weight when the runtime loads
the file). Claims are the papers' as far as they are known to us. Recipes train on small data: they show sanity, not
reproduction; [their page](../recipes/README.md) has the figures with their spread.

"""


def markdown(rows: Sequence[Row]) -> str:
    table = markdown_table(COLUMNS, [cells(row) for row in rows], left=LEFT)
    return _HEAD + re.sub(r"arXiv ([\d.]+)", r"[arXiv \1](https://arxiv.org/abs/\1)", table) + "\n"
