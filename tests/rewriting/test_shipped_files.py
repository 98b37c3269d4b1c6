"""Files that packages ship. The wheels are downloaded and unpacked: edgefc does not depend on magika or silero-vad."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
import pytest

from tests.bench import onnx_files

pytestmark = pytest.mark.slow


def unpacked(requirement: str, folder: Path) -> Path:
    """A folder with the files of a wheel, which is not installed."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder]
    done = subprocess.run([*command, requirement], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot download {requirement}: {done.stderr.strip().splitlines()[-1:]}")
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "files")
    return folder / "files"


def test_magika_in_two_fifths_of_its_bytes_has_the_same_labels(tmp_path: Path) -> None:
    report, labels = onnx_files.magika(unpacked("magika==1.0.3", tmp_path), tmp_path / "small.onnx")
    assert report.file_after <= 0.4 * report.file_before
    assert labels.kinds > 20 and labels.change <= 0.05
    assert labels.same >= 96  # which files lie within .05 of the package's threshold depends on the machine
    onnx.checker.check_model(str(tmp_path / "small.onnx"), full_check=True)


def test_silero_vad_in_two_fifths_of_its_bytes_has_the_same_probabilities(tmp_path: Path) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    report, changes, active = onnx_files.silero(unpacked("silero-vad==6.2.3", tmp_path), tmp_path / "small.onnx")
    assert report.file_after <= 0.4 * report.file_before
    assert max(changes.values()) <= 0.02
    assert active > 0.3
    onnx.checker.check_model(str(tmp_path / "small.onnx"), full_check=True)
