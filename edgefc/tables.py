"""Tables for people, on stdout. Nothing is cut: a terminal that is narrower than a table gets it in several parts."""

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from edgefc import screen
from edgefc.screen import visible, width

TOP = 20
"""Rows that a long table shows unless all are asked for."""

_GAP = "  "


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, keys: int = 1) -> None:
    """The first `left` columns are words, the rest numbers; the first `keys` stand in every part of the table."""
    known, room = screen.encoding(), screen.room()
    screen.out(*table_lines(columns, rows, left=left, keys=keys, encoding=known, room=room))


def table_lines(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, keys: int = 1, encoding: str = "utf-8",
    room: int | None = None,
) -> list[str]:  # fmt: skip
    """The lines of print_table, in printable characters of the encoding.

    Lines have at most `room` columns, but for words that are longer. In a table that is wider, headings have several
    lines, and columns that do not fit follow in further parts, beside the same keys. Where not even one column of
    numbers fits beside the keys, each cell has a line of its own.
    """
    names = [visible(column, encoding) for column in columns]
    body = [[visible(cell, encoding) for cell in row] for row in rows]
    sizes = [max(map(width, column)) for column in zip(names, *body, strict=True)]
    if room is None or _wide(sizes) <= room:
        return _aligned([names, *body], sizes, left)
    headings, sizes = _folded(names, body)
    if any(_wide([*sizes[:keys], size]) > room for size in sizes[max(left, keys) :]):
        return list(_stacked(names, body, room))
    lines: list[str] = []
    for part in _parts(sizes, keys, room):
        lines += [""] if lines else []
        above, below = ([[row[at] for at in part] for row in rows] for rows in (headings, body))
        kept = [*filter(any, above), *below]
        lines += _aligned(kept, [sizes[at] for at in part], sum(at < left for at in part))
    return lines


def _aligned(rows: Sequence[Sequence[str]], sizes: Sequence[int], left: int) -> list[str]:
    lines = []
    for row in rows:
        spaces = [" " * (size - width(cell)) for cell, size in zip(row, sizes, strict=True)]
        words = [cell + space for cell, space in zip(row[:left], spaces, strict=False)]
        numbers = [space + cell for cell, space in zip(row[left:], spaces[left:], strict=True)]
        lines.append(_GAP.join([*words, *numbers]).rstrip())
    return lines


def _folded(names: Sequence[str], body: Sequence[Sequence[str]]) -> tuple[list[list[str]], list[int]]:
    """Headings of several lines, no wider than the cells below them or their own longest word; and the sizes."""
    sizes, columns = [], []
    for name, *cells in zip(names, *body, strict=True):
        sizes.append(max(map(width, (*name.split(), *cells)), default=0))
        columns.append(wrap(name, max(1, sizes[-1]), break_long_words=False, break_on_hyphens=False))
    most = max(map(len, columns))
    return [list(line) for line in zip(*([""] * (most - len(c)) + c for c in columns), strict=True)], sizes


def _parts(sizes: Sequence[int], keys: int, room: int | None) -> Iterator[list[int]]:
    """The columns of each part."""
    part = list(range(keys))
    for column in range(keys, len(sizes)):
        if room is not None and len(part) > keys and _wide([sizes[at] for at in (*part, column)]) > room:
            yield part
            part = list(range(keys))
        part.append(column)
    yield part


def _stacked(names: Sequence[str], body: Sequence[Sequence[str]], room: int) -> Iterator[str]:
    """A line for each cell, behind its column's name, or below it where both do not fit in a line."""
    for index, row in enumerate(body):
        yield from [""] if index else []
        for name, cell in zip(names, row, strict=True):
            line = f"{name}: {cell}" if name else cell
            yield from [line] if width(line) <= room or not name else [f"{name}:", cell]


def _wide(sizes: Sequence[int]) -> int:
    return sum(sizes) + len(_GAP) * (len(sizes) - 1)


def first_rows(rows: Sequence[Sequence[str]], every: bool) -> tuple[Sequence[Sequence[str]], str]:
    """The rows to print, and a line on those left out: the first TOP rows unless all are asked for."""
    if every or len(rows) <= TOP + 1:  # a line for one row that is left out would take its place
        return rows, ""
    return rows[:TOP], f"... and {len(rows) - TOP} more. --all prints every row."


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """The same as markdown, without a line end after the last row."""
    rule = (*["---"] * left, *["---:"] * (len(columns) - left))
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))
