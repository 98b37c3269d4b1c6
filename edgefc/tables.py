"""Tables for people, on stdout."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

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


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """The same as markdown, without a line end after the last row."""
    rule = (*["---"] * left, *["---:"] * (len(columns) - left))
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))
