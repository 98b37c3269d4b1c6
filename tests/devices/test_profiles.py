"""Profiles of devices: every fact has its source, every key its unit, and a careless line is told in one sentence."""

import json
import re
from pathlib import Path

import pytest

from edgefc.cli import main
from edgefc.devices.profiles import profile
from edgefc.errors import UsageError
from tests.support.json_schema import assert_valid

WANTED = {
    "host", "pi3", "pi4", "pi5", "pi-zero-2-w", "jetson-orin-nano", "rock-5b", "apple-m1", "browser", "emulated-arm64",
}  # fmt: skip
every_profile = pytest.mark.parametrize("key", profile.names())
UNITS = ("_hz", "_bytes", "_bytes_per_s", "_bytes_per_core", "_bytes_shared", "_celsius", "_flop_per_cycle")
PLAIN = {"soc", "os", "instruction_sets", "core", "cores", "type", "bytes"}  # words, counts, and a unit alone

GOOD = """
name = "a board"
kind = "board"
[sources]
page = "https://example.org/board"
[[clusters]]
core = { value = "Cortex-A53", source = "page" }
cores = { value = 4, source = "page" }
max_clock_hz = { value = 1_200_000_000, source = "page" }
"""


def test_the_kinds_that_were_asked_for() -> None:
    kinds = [profile.load(key).kind for key in profile.names()]

    assert set(profile.names()) >= WANTED and kinds.count("phone") >= 3


@every_profile
def test_every_fact_has_the_address_of_its_source(key: str) -> None:
    found = profile.load(key)

    for path, fact in found.facts():
        assert re.match(r"https?://[a-z0-9.]+\.[a-z]+/\S+$", found.sources[fact.source]), path


@every_profile
def test_units_end_the_keys(key: str) -> None:
    for path, fact in profile.load(key).facts():
        last = path.rpartition(".")[2]
        assert last in PLAIN or last.endswith(UNITS), path
        assert fact.value not in ("", [], None)


@every_profile
def test_figures_agree_with_each_other(key: str) -> None:
    """The first cluster is the fastest; a copy moves twice its bytes, and no more than the memory can."""
    found = profile.load(key)
    clocks = [cluster.max_clock_hz.value for cluster in found.clusters]

    assert clocks == sorted(clocks, reverse=True)
    if found.memory and found.memory.copy_bytes_per_s and found.memory.bandwidth_bytes_per_s:
        assert 2 * found.memory.copy_bytes_per_s.value <= found.memory.bandwidth_bytes_per_s.value
    if found.thermal.limit_celsius and found.thermal.throttle_from_celsius:
        assert found.thermal.throttle_from_celsius.value <= found.thermal.limit_celsius.value


def test_facts_walks_into_every_part() -> None:
    """Meta-test: a part that facts() forgot would go unchecked."""
    text = (profile.FOLDER / "pi5.toml").read_text(encoding="utf-8")
    written = sum("{ value = " in line for line in text.splitlines())

    assert len(list(profile.load("pi5").facts())) == written > 10


FOUR = 'cores = { value = 4, source = "page" }'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "board"', 'kind = "toaster"', "kind: Input should be 'host', 'board'"),
        ("[sources]", "speed = 3\n[sources]", "speed: Extra inputs are not permitted"),
        (FOUR, FOUR.replace("4", "4.0"), "clusters.0.cores.value: Input should be a valid integer"),
        (FOUR, FOUR.replace("4", "0"), "clusters.0.cores.value: Input should be greater than or equal to 1"),
        (FOUR, FOUR.replace("page", "book"), "clusters.0.cores has the source 'book', which [sources] does not list"),
        (FOUR, "cores = { value = 4 }", "clusters.0.cores.source: Field required"),
        ("[[clusters]]", 'book = "https://example.org/b"\n[[clusters]]', "no fact uses the source 'book'"),
        ("https://example.org/board", "my memory", "sources.page: String should match pattern"),
        ("1_200_000_000", "1_200", "clusters.0.max_clock_hz.value: Input should be greater"),
        ("[sources]", "[sources", "it is not valid TOML: "),
    ],
    ids=["kind", "extra", "float", "zero", "unlisted", "no-source", "unused", "no-address", "kHz", "no-toml"],
)
def test_files_that_are_no_profile(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    (tmp_path / "good.toml").write_text(GOOD)
    (tmp_path / "bad.toml").write_text(GOOD.replace(old, new))

    assert profile.read(tmp_path / "good.toml").key == "good"
    with pytest.raises(UsageError) as caught:
        profile.read(tmp_path / "bad.toml")
    assert said in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("key", ["pi6", "", "../profiles/pi5", "PI5", "pi5.toml"])
def test_no_such_profile(key: str) -> None:
    with pytest.raises(UsageError, match=f"no profile {re.escape(repr(key))}. Profiles are: apple-m1, browser, "):
        profile.load(key)


def test_a_file_of_any_size_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "big.toml").write_bytes(b"#" * (1 << 20) + b"\n")

    with pytest.raises(UsageError, match=r"it has more than 1048576 bytes"):
        profile.read(tmp_path / "big.toml")
    with pytest.raises(UsageError, match=r"cannot read .*: No such file or directory"):
        profile.read(tmp_path / "none.toml")


def test_the_command_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    assert main(["devices", "--json", str(tmp_path / "devices.json")]) == 0

    said, written = capsys.readouterr().out, json.loads((tmp_path / "devices.json").read_text())
    assert re.search(r"^pi5 +Raspberry Pi 5 +board +4 Cortex-A76 +2\.4 +4/8 +yes *$", said, re.M)
    assert "You have not added a device yet" in said
    assert_valid(tmp_path / "devices.json", "devices")
    assert [each["key"] for each in written["profiles"]] == profile.names() and written["devices"] == {}
