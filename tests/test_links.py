"""Every page: links lead somewhere, paths in code spans exist, and commands have the options that are shown."""

import re
import shlex
from pathlib import Path

import pytest

import edgefc.commands
from edgefc.cli import main

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = {".venv", ".git", "build", "dist", "shared"}
PAGES = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not HIDDEN & set(path.relative_to(ROOT).parts) and not path.is_symlink()
]
PAGES = [path for path in PAGES if path.resolve() == path]  # edgefc/export and others are links
page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def test_there_are_pages() -> None:
    assert {ROOT / "README.md", ROOT / "export/README.md", ROOT / "devices/README.md"} <= set(PAGES)


@page
def test_relative_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))

    assert [target for target in targets if "://" not in target and not (path.parent / target).exists()] == []


@page
def test_files_in_code_spans_exist(path: Path) -> None:
    """`runtime/native/build.py` and `page/worker.js`: from the top of the repository, or from the page's folder."""
    spans = re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|h|cc|js))`", path.read_text(encoding="utf-8"))

    assert [span for span in spans if not (ROOT / span).exists() and not (path.parent / span).exists()] == []


@page
def test_commands_exist(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line of a block that starts with edgefc names a command, and options that its help knows."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
    for line in "".join(blocks).splitlines():
        if not line.startswith("edgefc "):
            continue
        _edgefc, command, *words = shlex.split(line, comments=True)
        if command.startswith("-"):
            continue
        assert (Path(edgefc.commands.__path__[0]) / f"{command}.py").is_file(), line
        help_of = [command, words[0]] if command == "devices" and words and not words[0].startswith("-") else [command]
        with pytest.raises(SystemExit):
            main([*help_of, "--help"])
        text = capsys.readouterr().out
        assert [word for word in words if re.match(r"--?[a-z]", word) and word not in text] == [], line
