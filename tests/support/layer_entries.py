"""The entries of the catalogue whose layer is exported as one node of edgefc."""

from edgefc.catalogue import Entry, entries

_SEVERAL_NODES = ("Attention", "QuantizedLinear, 4 bits, rotated", "CorrectedLinear")


def of_one_node() -> list[Entry]:
    """All entries, without attention, rotated QuantizedLinear and CorrectedLinear, which consist of other layers."""
    return [entry for entry in entries() if not any(name in entry.name for name in _SEVERAL_NODES)]
