"""How the native library is compiled: for this machine, for arm64, for processors without a variant of their own."""

import os
import re
import shutil
import subprocess
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


def compiled_for(machine: str, folder: Path) -> dict[str, build.Unit]:
    return {unit.name: unit for unit in build.units(folder, machine)}


@pytest.mark.parametrize(
    ("machine", "cpus"),
    [
        ("x86_64", {"portable", "avx2", "avx512"}),
        ("aarch64", {"portable", "neon"}),
        ("riscv64", {"portable"}),
    ],
)
def test_every_kernel_is_compiled_for_every_instruction_set(machine: str, cpus: set[str], tmp_path: Path) -> None:
    """Of this kind of machine, and with nothing of another kind."""
    names = compiled_for(machine, tmp_path)

    for kernel in ("prp", "eugen", "tied", "circulant", "bounds"):
        found = {name[len(kernel) + 1 : -3] for name in names if name.startswith(f"{kernel}_")} - {"choice"}
        assert found - {"avx512vnni"} == cpus, kernel
    assert ("prp_avx512vnni.cc" in names) == (machine == "x86_64")


def test_the_flags_are_those_of_the_instruction_set(tmp_path: Path) -> None:
    units = compiled_for("x86_64", tmp_path)

    assert units["prp_avx2.cc"].flags == ("-O3", "-mavx2", "-mfma")
    assert units["prp_portable.cc"].flags == ("-O3",)
    assert units["prp/prp_op.cc"].flags == ("-O2",)
    assert set(units["prp_avx512vnni.cc"].flags) - set(units["prp_avx512.cc"].flags) == {"-mavx512vnni"}
    assert compiled_for("aarch64", tmp_path)["prp_neon.cc"].flags == ("-O3",)


def test_a_processor_is_asked_for_what_the_compiler_was_given(tmp_path: Path) -> None:
    """Else a kernel could be chosen that this processor cannot run."""
    units = compiled_for("x86_64", tmp_path)
    rows = units["cpus.cc"].path.read_text().split("},\n")

    for cpu in build.CPUS["x86_64"]:
        flags = {flag[2:] for flag in units[f"prp_{cpu}.cc"].flags if flag.startswith("-m")}
        assert flags in [set(re.findall(r'supports\("(\w+)"\)', row)) for row in rows], cpu


def test_a_kernel_without_an_instruction_set_of_its_own_runs_the_one_before(tmp_path: Path) -> None:
    units = compiled_for("x86_64", tmp_path)

    assert "{&portable, &avx2, &avx512, &avx512vnni}" in units["prp_choice.cc"].path.read_text()
    assert "{&portable, &avx2, &avx512, &avx512}" in units["tied_choice.cc"].path.read_text()


def test_a_new_kernel_is_new_files_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is compiled for every instruction set, and its operator is registered."""
    shutil.copytree(build.HERE, tmp_path / "native", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    monkeypatch.setattr(build, "HERE", tmp_path / "native")
    (tmp_path / "native/low").mkdir()
    for name in ("low.h", "low_op.cc", "low_lanes.h"):
        (tmp_path / "native/low" / name).write_text("")

    units = compiled_for("x86_64", tmp_path)

    assert {"low_portable.cc", "low_avx2.cc", "low_avx512.cc", "low_choice.cc", "low/low_op.cc"} <= set(units)
    assert "&low_op(options)" in units["operators.cc"].path.read_text()


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

    with pytest.raises(build.NoLibrary, match=r"^there are no sources in .*: a wheel has none\. Build in a checkout"):
        build.build(tmp_path / native.NAME)


def test_progress_has_a_line_for_each_file() -> None:
    lines: list[str] = []

    build._all({f"{name}.cc": ["true"] for name in "abc"}, lines.append)

    assert [line[:6] for line in lines] == ["[1/3] ", "[2/3] ", "[3/3] "]
    assert sorted(re.fullmatch(r"\[\d/3\] (\w\.cc), \d+\.\d s", line)[1] for line in lines) == ["a.cc", "b.cc", "c.cc"]


def test_only_the_arithmetic_takes_the_highest_level(tmp_path: Path) -> None:
    """It comes first too, since it takes longest."""
    levels = [unit.flags[0] for unit in build.units(tmp_path, "x86_64")]

    assert levels == sorted(levels, reverse=True) and set(levels) == {"-O2", "-O3"}
    for name, unit in compiled_for("x86_64", tmp_path).items():
        arithmetic = name.removesuffix(".cc").endswith(("_portable", "_avx2", "_avx512", "_avx512vnni"))
        assert unit.flags[0] == ("-O3" if arithmetic else "-O2"), name


def test_every_source_is_in_the_sdist() -> None:
    root = build.HERE.parents[1]
    patterns = (root / "MANIFEST.in").read_text().removeprefix("include ").split()

    listed = {path for pattern in patterns for path in root.glob(pattern)}

    assert listed == {path for end in ("cc", "h") for path in build.HERE.rglob(f"*.{end}")} >= set(build.sources())


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


@pytest.mark.slow
def test_code_for_one_processor_is_shared_with_no_other(tmp_path: Path) -> None:
    """The linker keeps one copy of an inline function for all files; it could be one that this processor cannot run."""
    if shutil.which("nm") is None:
        pytest.skip("NOT TESTED: there is no nm")
    for unit in build.units(tmp_path, build.machine()):
        if any(flag.startswith("-m") for flag in unit.flags):
            made = tmp_path / f"{unit.name}.o"  # without optimization every function that is called is there
            command = [
                *build.compiler(),
                *build.FLAGS,
                *unit.flags,
                "-O0",
                f"-I{build.HERE}",
                "-c",
                unit.path,
                "-o",
                made,
            ]
            subprocess.run(command, check=True)
            shown = subprocess.run(
                ["nm", "-C", "--defined-only", made], check=True, capture_output=True, text=True
            ).stdout
            assert [line for line in shown.splitlines() if line.split()[1] == "W"] == [], unit.name


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


def test_a_build_beside_the_sources_does_not_compile_its_own_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They would be compiled twice, and once without the flags of their instruction set."""
    monkeypatch.setattr(build, "HERE", tmp_path)
    for name in ("ort/library.cc", f"{build._PREFIX}x/prp_avx2.cc"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert build.sources() == [tmp_path / "ort/library.cc"]
