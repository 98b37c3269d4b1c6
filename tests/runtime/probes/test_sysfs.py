"""Kernel files that the test writes: values, and None if a file is missing or has other content."""

from pathlib import Path

import pytest

from edgefc.runtime.probes import sysfs


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sysfs, "CPUS", tmp_path)
    monkeypatch.setattr(sysfs, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(sysfs, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(sysfs, "_BOARDS", (tmp_path / "model", tmp_path / "product_name"))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_machine_that_tells_nothing(kernel: Path) -> None:
    assert (sysfs.governor(), sysfs.board(), sysfs.frequency_hz("scaling_cur_freq")) == (None, None, None)
    assert (sysfs.cpuinfo(), sysfs.flags(), sysfs.caches(), sysfs.meminfo_bytes("MemTotal")) == ({}, (), {}, None)


def test_what_an_x86_tells(kernel: Path) -> None:
    write(kernel / "cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2\n\nvendor_id\t: Other\nflags\t\t: none\n")
    write(kernel / "meminfo", "MemTotalX:  1 kB\nMemTotal:       16384 kB\nMemAvailable:    8 kB\n")
    write(kernel / "product_name", "A Board\n")
    for index, (level, kind, size) in enumerate(
        (("1", "Data", "32K"), ("1", "Instruction", "64K"), ("2", "Unified", "1024K"), ("3", "Unified", "1M"))
    ):
        for name, text in (("level", level), ("type", kind), ("size", size)):
            write(kernel / f"cpu0/cache/index{index}/{name}", f"{text}\n")
    write(kernel / "cpu0/cache/index4/level", "4\n")

    assert (sysfs.cpuinfo()["vendor_id"], sysfs.flags(), sysfs.board()) == ("AuthenticAMD", ("fpu", "avx2"), "A Board")
    assert sysfs.caches() == {1: 32 << 10, 2: 1 << 20, 3: 1 << 20}
    assert (sysfs.meminfo_bytes("MemTotal"), sysfs.meminfo_bytes("MemAvailable")) == (16384 * 1024, 8192)


def test_what_an_arm_tells(kernel: Path) -> None:
    write(kernel / "cpuinfo", "processor\t: 0\nFeatures\t: fp asimd\nCPU part\t: 0xd0b\n")
    write(kernel / "model", "Raspberry Pi 5\0")
    write(kernel / "cpu0/cpufreq/scaling_governor", "ondemand\n")
    write(kernel / "cpu0/cpufreq/cpuinfo_max_freq", "2400000\n")
    write(kernel / "cpu0/cpufreq/scaling_cur_freq", "<unsupported>\n")

    assert (sysfs.flags(), sysfs.board(), sysfs.governor()) == (("fp", "asimd"), "Raspberry Pi 5", "ondemand")
    assert sysfs.frequency_hz("cpuinfo_max_freq") == 2_400_000_000
    assert sysfs.frequency_hz("scaling_cur_freq") is None


@pytest.mark.parametrize("size", ["", "K", "32KB", "-", "1T"])
def test_a_size_that_is_none(kernel: Path, size: str) -> None:
    write(kernel / "cpu0/cache/index0/level", "1")
    write(kernel / "cpu0/cache/index0/size", size)

    assert sysfs.caches() == {}
