"""Text tables on stdout. Cells are never truncated: if a table is wider than the terminal, it is split into parts."""

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from edgefc import screen
from edgefc.screen import visible, width

TOP = 20
"""Rows of a long table that are shown without --all."""

_GAP = "  "


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, keys: int = 1) -> None:
    """Print a table. The first `left` columns are left-aligned words and the rest are right-aligned numbers. The first
    `keys` columns are repeated in every part of the table."""
    known, room = screen.encoding(), screen.room()
    screen.out(*table_lines(columns, rows, left=left, keys=keys, encoding=known, room=room))


def table_lines(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, keys: int = 1, encoding: str = "utf-8",
    room: int | None = None,
) -> list[str]:  # fmt: skip
    """The lines of print_table, in printable characters of the encoding.

    Lines have at most `room` terminal columns, except for longer words. If the table is wider, headings are wrapped,
    and columns that do not fit follow in further parts, next to the same key columns. If not even one number column
    fits next to the keys, each cell is printed on its own line.
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
    """Wrap headings to the width of their cells or of their longest word. Returns heading lines and column widths."""
    sizes, columns = [], []
    for name, *cells in zip(names, *body, strict=True):
        sizes.append(max(map(width, (*name.split(), *cells)), default=0))
        columns.append(wrap(name, max(1, sizes[-1]), break_long_words=False, break_on_hyphens=False))
    most = max(map(len, columns))
    return [list(line) for line in zip(*([""] * (most - len(c)) + c for c in columns), strict=True)], sizes


def _parts(sizes: Sequence[int], keys: int, room: int | None) -> Iterator[list[int]]:
    """The column indices of each part."""
    part = list(range(keys))
    for column in range(keys, len(sizes)):
        if room is not None and len(part) > keys and _wide([sizes[at] for at in (*part, column)]) > room:
            yield part
            part = list(range(keys))
        part.append(column)
    yield part


def _stacked(names: Sequence[str], body: Sequence[Sequence[str]], room: int) -> Iterator[str]:
    """One line per cell: "NAME: cell", or the name and the cell on two lines if they do not fit on one."""
    for index, row in enumerate(body):
        yield from [""] if index else []
        for name, cell in zip(names, row, strict=True):
            line = f"{name}: {cell}" if name else cell
            yield from [line] if width(line) <= room or not name else [f"{name}:", cell]


def _wide(sizes: Sequence[int]) -> int:
    return sum(sizes) + len(_GAP) * (len(sizes) - 1)


def first_rows(rows: Sequence[Sequence[str]], every: bool) -> tuple[Sequence[Sequence[str]], str]:
    """The rows to print, and a line that counts the omitted ones. The first TOP rows are printed unless `every`."""
    if every or len(rows) <= TOP + 1:  # a line about one omitted row would be as long as the row
        return rows, ""
    return rows[:TOP], f"... and {len(rows) - TOP} more. --all prints every row."


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """The table as markdown, without a line break after the last row."""
    rule = (*["---"] * left, *["---:"] * (len(columns) - left))
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))
