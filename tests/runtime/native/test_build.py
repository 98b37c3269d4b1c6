"""How the native library is compiled: for this machine, for arm64, for processors without a variant of their own."""

import os
import re
import time
from pathlib import Path

import pytest

from edgefc.runtime import native
from edgefc.runtime.native import build
from edgefc.testing import assert_close
from tests.support.native_models import Prp, inputs, run, session


def test_each_machine_has_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.platform, "machine", lambda: "AMD64")

    assert build.machine() == "x86_64"
    assert build.place() == build.place("x86_64") == build.HERE / build.NAME
    assert build.place("aarch64") == build.HERE / "libedgefc-aarch64.so"
    monkeypatch.setattr(build.platform, "machine", lambda: "arm64")
    assert build.place("aarch64") == build.HERE / build.NAME


def test_no_compiler_for_the_target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    said = r"^there is no C\+\+ compiler for aarch64: none of aarch64-linux-gnu-g\+\+ is on the path"
    with pytest.raises(build.NoLibrary, match=said):
        build.build(tmp_path / "x.so", target="aarch64")


@pytest.mark.parametrize(
    ("machine", "source", "flags"),
    [
        ("x86_64", "prp_avx2", ("-mavx2", "-mfma")),
        ("x86_64", "prp_portable", ()),
        ("aarch64", "prp_avx2", ()),
        ("aarch64", "prp_neon", ()),
        ("riscv64", "prp_avx512", ()),
    ],
)
def test_flags_of_one_kind_of_processor_reach_no_other(machine: str, source: str, flags: tuple[str, ...]) -> None:
    assert build._flags(machine, source) == flags


def test_every_file_for_one_kind_of_processor_is_empty_on_others() -> None:
    for guard, ends in (("__x86_64__", ("_avx2", "_avx512")), ("__aarch64__", ("_neon",))):
        for source in build.SOURCES:
            if source.endswith(ends):
                lines = (build.HERE / f"{source}.cc").read_text().splitlines()
                code = [line for line in lines if line and not line.startswith("//")]
                assert (code[0], code[-1]) == (f"#if defined({guard})", "#endif"), source


@pytest.mark.parametrize(
    ("cxx", "said"),
    [
        ("no-such-compiler", "the compiler no-such-compiler cannot be started"),
        ("false", "the compiler failed:\nfalse "),
    ],
)
def test_a_build_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cxx: str, said: str) -> None:
    monkeypatch.setenv("CXX", cxx)

    with pytest.raises(build.NoLibrary, match=said):
        build.build(tmp_path / native.NAME)
    assert not list(tmp_path.iterdir())


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(build.NoLibrary, match=r"^there is no C\+\+ compiler: none of c\+\+, g\+\+, clang\+\+ is on"):
        build.build(tmp_path / native.NAME)


def test_an_installed_wheel_has_no_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setenv("CXX", "true")

    with pytest.raises(build.NoLibrary, match=r"^their sources are not in .*: a wheel has none\. Build in a checkout"):
        build.build(tmp_path / native.NAME)


def test_progress_has_a_line_for_each_file() -> None:
    lines: list[str] = []

    build._all({f"{name}.cc": ["true"] for name in "abc"}, lines.append)

    assert [line[:6] for line in lines] == ["[1/3] ", "[2/3] ", "[3/3] "]
    assert sorted(re.fullmatch(r"\[\d/3\] (\w\.cc), \d+\.\d s", line)[1] for line in lines) == ["a.cc", "b.cc", "c.cc"]


def test_only_the_arithmetic_takes_the_highest_level() -> None:
    """A file of one variant is arithmetic, and everything else is not."""
    for source in build.SOURCES:
        ends = source.rpartition("_")[2] in ("portable", "avx2", "avx512", "avx512vnni", "neon")
        assert build._level(source) == ("-O3" if ends else "-O2"), source


def test_every_source_is_built() -> None:
    found = {path.stem for path in build.HERE.glob("*.cc")} - {"check_slots"}

    assert set(build.SOURCES) == found


@pytest.mark.slow
@pytest.mark.parametrize("cxx", ["g++", "clang++"])
def test_no_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cxx: str) -> None:
    monkeypatch.setenv("CXX", cxx)
    if build.shutil.which(cxx) is None:
        pytest.skip(f"NOT TESTED: there is no {cxx}")

    made = build.build(tmp_path / native.NAME, extra=build.STRICT)

    layer = Prp(37, 17, "gaussian")
    y = run(session(layer.model(), str(made)), inputs(3, 37))
    assert_close(y, layer.expected(inputs(3, 37)), nmse=1e-12, what=cxx)


def test_a_build_removes_the_objects_of_one_that_was_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And not those of one that runs or is about to. It waits for nobody, whoever has locked the place."""
    fcntl = pytest.importorskip("fcntl")
    long_ago = time.time() - 3600
    for name in ("killed", "running", "starting"):
        (tmp_path / f"edgefc-build-{name}" / "inside").mkdir(parents=True)
        if name != "starting":
            os.utime(tmp_path / f"edgefc-build-{name}", (long_ago, long_ago))
    held = [os.open(folder, os.O_RDONLY) for folder in (tmp_path, tmp_path / "edgefc-build-running")]
    for descriptor in held:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def compile_nothing(*_: object) -> None:
        raise build.NoLibrary("no")

    monkeypatch.setenv("CXX", "true")
    monkeypatch.setattr(build, "_all", compile_nothing)
    with pytest.raises(build.NoLibrary):
        build.build(tmp_path / build.NAME)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["edgefc-build-running", "edgefc-build-starting"]
    for descriptor in held:
        os.close(descriptor)
