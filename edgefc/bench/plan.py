"""Choose the layers and sizes to compare from the user's request. Invalid requests fail before anything is measured."""

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
LARGEST_BLOCK_BYTES = 1 << 28  # for the dense model of a block that was not requested by name
_FILES = 6  # disk space for all models of one size, in units of the dense layer, temporary files of quantisers included

_COPIES = 8  # memory for all sessions of one size, in units of the dense layer: portable bodies build their matrix


@dataclass(frozen=True)
class Case:
    """One run: the layers that are compared with torch.nn.Linear(n, m) or, for a `block`, with the entry's dense model.

    most_bytes is the largest dense model that a block is compared with. hint is the advice if the model is larger.
    """

    n: int
    m: int
    competitors: tuple[str, ...]
    entries: tuple[Entry, ...]
    block: Entry | None = None
    most_bytes: int = LARGEST_DENSE_BYTES
    hint: str = "give a smaller n."


def name_of(entry: Entry) -> str:
    """The name of an entry without commas, because commas separate names on the command line."""
    return entry.name.replace(",", "")


def dense_name(entry: Entry) -> str:
    """The name of the dense model that a block replaces."""
    return f"{DENSE} (for {name_of(entry)})"


def known() -> tuple[str, ...]:
    """Every name that --layers accepts."""
    return (*COMPETITORS, *(name_of(entry) for entry in _of_rows()))


def chosen(wanted: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[Entry, ...]]:
    """The competitors and entries that match one of the wanted names. None selects all.

    A name matches if it contains all words of the wanted name.

    Raises:
        UsageError: a wanted name matches nothing.
    """
    names = set(known()) if wanted is None else {name for text in wanted for name in _matching(text)}
    competitors = tuple(name for name in COMPETITORS if name in names)
    return competitors, tuple(entry for entry in _of_rows() if name_of(entry) in names)


def cases(
    sizes: Sequence[tuple[int, int]], competitors: tuple[str, ...], layers: tuple[Entry, ...], named: bool
) -> list[Case]:
    """One case per size for all linear layers, and one case per block and n.

    Args:
        named: whether the layers were requested by name.
    """
    linear, blocks = ([e for e in layers if (e.linear is None) == block] for block in (False, True))
    result = [Case(n, m, competitors, tuple(linear)) for n, m in sizes if competitors or linear]
    for entry in blocks:
        hint = "give a smaller n." if named else f"--layers {name_of(entry)} raises this limit."
        most = LARGEST_DENSE_BYTES if named else LARGEST_BLOCK_BYTES
        result += [Case(n, n, (), (), entry, most, hint) for n in dict.fromkeys(n for n, _ in sizes)]
    return result


def check_room(sizes: Sequence[tuple[int, int]], memory_bytes: int | None) -> None:
    """Check the sizes against the limits of the command and of this machine.

    Raises:
        UsageError: a dense layer is too large, or the largest models do not fit memory or the disk for temporary files.
    """
    n, m = max(sizes, key=lambda size: size[0] * size[1])
    dense = 4 * n * m
    if dense > LARGEST_DENSE_BYTES:
        raise UsageError(
            f"a dense layer of n={n}, m={m} takes {dense / 1e9:.1f} GB, above the "
            f"limit of {LARGEST_DENSE_BYTES / 1e9:.1f} GB of this command. Give smaller sizes."
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
    """The entries in the place of other layers whose input has the shape (batch, n) and float numbers: no images,
    sequences or tokens."""
    result = []
    for entry in entries():
        example = entry.example(4)
        if entry.replaces and example.ndim == 2 and example.is_floating_point():
            result.append(entry)
    return result


def _matching(text: str) -> list[str]:
    """The name itself, or all names that contain every word."""
    words = text.lower().split()
    exact = [name for name in known() if name.lower().split() == words]
    matches = exact or [name for name in known() if words and all(word in name.lower() for word in words)]
    if not matches:
        raise UsageError(
            f"no layer matches {text!r}{_near(words)}. Choose among: {', '.join(known())}; "
            "a part of a name selects all layers whose names contain it."
        )
    return matches


def _near(words: list[str]) -> str:
    """A suggestion in brackets, if a word is similar to a word of a name."""
    holders = {word: name for name in reversed(known()) for word in name.lower().split()}
    close = [match for word in words for match in difflib.get_close_matches(word, holders, n=1)]
    return f" (did you mean {holders[close[0]]!r}?)" if close else ""
