"""What the pages say of the ops is what the lowerings have."""

from pathlib import Path

import pytest

from edgefc.export.options import Options
from edgefc.export.registry import lowerings

PAGE = (Path(__file__).resolve().parents[1] / "export/README.md").read_text(encoding="utf-8")
ROWS = {line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `")}


def test_the_page_lists_every_op() -> None:
    assert set(ROWS) == set(lowerings())


@pytest.mark.parametrize("name", sorted(lowerings()))
def test_the_page_names_every_attribute(name: str) -> None:
    function = lowerings()[name].lower(20, Options())
    said = ROWS[name].split("|")[3]
    if "the first eight" not in said:
        assert sorted(part.strip() for part in said.split(",")) == sorted(function.attributes)
