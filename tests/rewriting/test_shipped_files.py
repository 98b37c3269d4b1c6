"""Files that packages ship, if the packages are installed. magika and silero-vad are no dependencies of edgefc."""

import importlib.util
import shutil
from pathlib import Path

import onnx
import pytest

from tests.bench import onnx_files

pytestmark = pytest.mark.slow


def folder_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(found.origin).parents[1]


def test_magika_in_two_fifths_of_its_bytes_has_the_same_labels(tmp_path: Path) -> None:
    report, same, labels = onnx_files.magika(folder_of("magika"), tmp_path / "small.onnx")
    assert report.file_after <= 0.4 * report.file_before
    assert same == 100 and labels > 20
    onnx.checker.check_model(str(tmp_path / "small.onnx"), full_check=True)


def test_silero_vad_in_two_fifths_of_its_bytes_has_the_same_probabilities(tmp_path: Path) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    report, changes, active = onnx_files.silero(folder_of("silero_vad"), tmp_path / "small.onnx")
    assert report.file_after <= 0.4 * report.file_before
    assert max(changes.values()) <= 0.02
    assert active > 0.3
    onnx.checker.check_model(str(tmp_path / "small.onnx"), full_check=True)
