"""The README's code runs as it stands, and its commands are the ones that exist."""

import re
from pathlib import Path

import pytest

import edgefc.commands
from edgefc.cli import main

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)


def blocks(kind: str) -> list[str]:
    found = [text for label, text in BLOCKS if label == kind]
    assert found, f"the README has no {kind} block"
    return found


@pytest.mark.slow
def test_the_python_example_runs(tmp_path, monkeypatch, capsys) -> None:
    """As a newcomer would paste it, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    for text in blocks("python"):
        exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})

    assert "agree" in capsys.readouterr().out
    assert (tmp_path / "model.onnx").is_file()


def test_the_first_two_blocks_set_up_run_and_test() -> None:
    """What a fresh machine runs: the same set-up, then the demo, then the tests."""
    demo, tests = blocks("sh")[:2]

    assert demo.splitlines()[:-1] == tests.splitlines()[:-1]
    assert demo.splitlines()[-1] == ".venv/bin/edgefc demo"
    assert tests.splitlines()[-1] == ".venv/bin/pytest"


def test_every_command_shown_exists(capsys) -> None:
    """Each edgefc line names a subcommand, and options that its help knows."""
    for line in "".join(blocks("console")).splitlines():
        _edgefc, command, *words = line.split()
        assert (Path(edgefc.commands.__path__[0]) / f"{command}.py").is_file(), line
        try:
            main([command, "--help"])
        except SystemExit:
            text = capsys.readouterr().out
        for option in (word for word in words if word.startswith("-")):
            assert option in text, f"{command} has no {option}"


def test_figures_are_filled_in() -> None:
    """No placeholder is left, and each page says where its figures come from."""
    for page in (ROOT / "README.md", ROOT / "export/README.md"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"\b[A-Z]+_TABLE\b", text)
        assert "onnxruntime 1.31.1" in text
        assert "tests/bench/" in text
