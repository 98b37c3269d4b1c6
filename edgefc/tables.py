"""Tables for people, on stdout."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

TOP = 20
"""Rows that a long table shows unless all are asked for."""

_WIDE = 10_000  # columns: nothing is cut or folded; a narrow terminal wraps lines itself


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, total: bool = False) -> None:
    """The first `left` columns are words, the rest numbers; total=True sets the last row apart."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    rows = list(rows)
    for index, row in enumerate(rows):
        if total and index == len(rows) - 1:
            table.add_section()
        table.add_row(*row)
    Console(width=_WIDE, highlight=False, markup=False, emoji=False).print(table)


def first_rows(rows: Sequence[Sequence[str]], every: bool) -> tuple[Sequence[Sequence[str]], str]:
    """The rows to print, and a line on those left out: the first TOP rows unless all are asked for."""
    if every or len(rows) <= TOP + 1:  # a line for one row that is left out would take its place
        return rows, ""
    return rows[:TOP], f"... and {len(rows) - TOP} more. --all prints every row."


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """The same as markdown, without a line end after the last row."""
    rule = (*["---"] * left, *["---:"] * (len(columns) - left))
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))
