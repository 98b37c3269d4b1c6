"""What .ci/run says of the instruction sets that it tested."""

from pathlib import Path

import pytest

from tests.support import variants

NO_ARM64 = "the arm64 folder needs debootstrap."
X86 = ["portable", "avx2"]


@pytest.mark.parametrize(
    ("here", "features", "no_arm64", "said"),
    [
        (
            [*X86, "avx512"], ("avx512vnni",), None,
            "instruction sets tested: portable, avx2, avx512, avx512vnni, neon (emulated); NOT TESTED: none",
        ),
        (
            X86, ("avx2",), NO_ARM64,
            "instruction sets tested: portable, avx2; NOT TESTED: avx512, avx512vnni (not of this processor); "
            "neon (the arm64 folder needs debootstrap)",
        ),
        (
            [*X86, "avx512"], ("avx512f",), None,
            "instruction sets tested: portable, avx2, avx512, neon (emulated); NOT TESTED: avx512vnni (not of this "
            "processor)",
        ),
        (
            ["portable", "neon"], ("neon",), NO_ARM64,
            "instruction sets tested: portable, neon; NOT TESTED: none",
        ),
    ],
)  # fmt: skip
def test_the_summary(here: list[str], features: tuple[str, ...], no_arm64: str | None, said: str) -> None:
    assert variants.summary(here, features, no_arm64) == said


def test_every_variant_but_the_last_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one is that of the everyday tests. A failure sets the exit code; the summary is always written."""
    ran: list[str] = []
    monkeypatch.setattr(variants.native, "library_path", lambda: "libedgefc.so")
    monkeypatch.setattr(variants, "runnable", lambda library: [*X86, "avx512"])
    monkeypatch.setattr(variants, "_tests", lambda name, files: ran.append(name) or name == "avx2")
    monkeypatch.setattr(variants.sys, "argv", ["variants", str(tmp_path / "said")])

    assert variants.main() == 1
    assert ran == X86
    assert (tmp_path / "said").read_text().startswith("instruction sets tested: portable, avx2, avx512")


def test_files_that_load_the_kernels_are_there() -> None:
    tests = variants.ROOT / "tests"
    assert all(list(tests.glob(pattern)) for pattern in variants.FILES)
    for test in variants.TESTS:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (tests / file).read_text()
