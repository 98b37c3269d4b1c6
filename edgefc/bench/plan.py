"""Which layers at which sizes, by what a user asked for; what cannot be is told before anything is measured."""

import difflib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from edgefc import temporary
from edgefc.catalogue import Entry, entries
from edgefc.errors import UsageError

DENSE, LOW_RANK = "dense fp32", "low rank"
INT8, INT8_BLOCKS, INT4 = "int8 dynamic", "int8 MatMulNBits", "int4 MatMulNBits"
COMPETITORS = (INT8, INT8_BLOCKS, INT4, LOW_RANK)
LARGEST_DENSE_BYTES = 1 << 30
LARGEST_BLOCK_BYTES = 1 << 28  # of what a block replaces, where the block was not asked for by name
_FILES = 6  # of all layers of one size, in dense layers: those that store a matrix, and what quantisers write meanwhile

_COPIES = 8  # of a dense layer that memory holds when all take turns: portable bodies hold the matrix that they make


@dataclass(frozen=True)
class Case:
    """What is compared in one run: a torch.nn.Linear(n, m), or, with `block`, that entry's own dense model.

    most_bytes is the largest dense model that a block is compared with; hint is what helps when it is larger.
    """

    n: int
    m: int
    competitors: tuple[str, ...]
    entries: tuple[Entry, ...]
    block: Entry | None = None
    most_bytes: int = LARGEST_DENSE_BYTES
    hint: str = "give a smaller n."


def name_of(entry: Entry) -> str:
    """Without commas, which separate names on the command line."""
    return entry.name.replace(",", "")


def dense_name(entry: Entry) -> str:
    """Of the model that a block replaces."""
    return f"{DENSE} (for {name_of(entry)})"


def known() -> tuple[str, ...]:
    """Every name that --layers understands."""
    return (*COMPETITORS, *(name_of(entry) for entry in _of_rows()))


def chosen(wanted: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[Entry, ...]]:
    """Rivals and entries whose name holds all words of one of the wanted ones; all of them for None.

    Raises:
        UsageError: a wanted name that no name holds.
    """
    names = set(known()) if wanted is None else {name for text in wanted for name in _matching(text)}
    competitors = tuple(name for name in COMPETITORS if name in names)
    return competitors, tuple(entry for entry in _of_rows() if name_of(entry) in names)


def cases(
    sizes: Sequence[tuple[int, int]], competitors: tuple[str, ...], layers: tuple[Entry, ...], named: bool
) -> list[Case]:
    """Linear layers of one size together; a block that replaces something else by itself, at every n.

    `named`: the layers were asked for by name.
    """
    linear, blocks = ([e for e in layers if (e.linear is None) == block] for block in (False, True))
    found = [Case(n, m, competitors, tuple(linear)) for n, m in sizes if competitors or linear]
    for entry in blocks:
        hint = "give a smaller n." if named else f"--layers {name_of(entry)} compares them all the same."
        most = LARGEST_DENSE_BYTES if named else LARGEST_BLOCK_BYTES
        found += [Case(n, n, (), (), entry, most, hint) for n in dict.fromkeys(n for n, _ in sizes)]
    return found


def check_room(sizes: Sequence[tuple[int, int]], memory_bytes: int | None) -> None:
    """
    Raises:
        UsageError: the largest models do not fit memory, or the disk for temporary files; a dense layer is too large.
    """
    n, m = max(sizes, key=lambda size: size[0] * size[1])
    dense = 4 * n * m
    if dense > LARGEST_DENSE_BYTES:
        raise UsageError(
            f"a dense layer of n={n}, m={m} takes {dense / 1e9:.1f} GB, above the "
            f"{LARGEST_DENSE_BYTES / 1e9:.1f} GB that this command compares with. Give smaller sizes."
        )
    if memory_bytes is not None and _COPIES * dense > memory_bytes:
        raise UsageError(
            f"the layers of n={n}, m={m} take up to {_COPIES * dense / 1e9:.2g} GB of memory together, and this "
            f"machine has {memory_bytes / 1e9:.2g} GB. Give smaller sizes."
        )
    folder = temporary.system_place()
    free = shutil.disk_usage(folder).free
    if _FILES * dense > free:
        raise UsageError(
            f"the models of n={n}, m={m} take up to {_FILES * dense / 1e9:.2g} GB and {folder} has {free / 1e9:.2g} GB "
            "free. Give smaller sizes, or set TMPDIR to a folder on another disk."
        )


def _of_rows() -> list[Entry]:
    """Entries whose input is rows of numbers: no images, sequences or tokens."""
    found = []
    for entry in entries():
        example = entry.example(4)
        if example.ndim == 2 and example.is_floating_point():
            found.append(entry)
    return found


def _matching(text: str) -> list[str]:
    """The name itself, or all names that hold every word."""
    words = text.lower().split()
    exact = [name for name in known() if name.lower().split() == words]
    found = exact or [name for name in known() if words and all(word in name.lower() for word in words)]
    if not found:
        raise UsageError(
            f"there is no layer {text!r} to compare{_near(words)}. Choose among: {', '.join(known())}; "
            "a part of a name chooses all that have it."
        )
    return found


def _near(words: list[str]) -> str:
    """A did-you-mean in brackets where a word is nearly one of a name."""
    holders = {word: name for name in reversed(known()) for word in name.lower().split()}
    close = [match for word in words for match in difflib.get_close_matches(word, holders, n=1)]
    return f" (did you mean {holders[close[0]]!r}?)" if close else ""
