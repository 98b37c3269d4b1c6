"""The table of all structured layers, from the ENTRIES in the files of the layers.

    rows.py   builds, counts and exports each entry
    page.py   writes the rows as README.md

Claims are those of the papers, as far as we know them. Layers that are not in a paper are marked.
"""

from torch import Tensor, nn

from edgefc.layers.common.entry import Entry as Entry
from edgefc.layers.registry import entries as entries


class Called(nn.Module):
    """A layer of an entry as a model with one input and one output."""

    def __init__(self, entry: Entry, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self._call = layer, entry.call

    def forward(self, x: Tensor) -> Tensor:
        return self._call(self.layer, x)
