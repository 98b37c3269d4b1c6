"""Releases of onnxruntime that compute wrong numbers are refused before a file runs."""

from pathlib import Path

import onnxruntime
import pytest

from edgefc import releases
from edgefc.errors import UsageError
from edgefc.export.verifying.running import open_session
from edgefc.runtime import Session
from tests.support import onnx_models


@pytest.mark.parametrize("version", ["1.22.0", "1.23.2", "1.28.0", "1.31.1", "1.100.0", "2.0.0", "1.28.0.dev20260801"])
def test_right(version: str) -> None:
    releases.check_release(version)


@pytest.mark.parametrize("version", ["1.24.1", "1.25.1", "1.26.0", "1.27.0"])
def test_wrong(version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = onnx_models.matmul(tmp_path / "m.onnx", 4, 2)
    monkeypatch.setattr(onnxruntime, "__version__", version)
    for run in (Session, open_session):
        with pytest.raises(UsageError, match=rf"onnxruntime {version} is installed.*Install 1\.28 or later, or 1\.23"):
            run(Path(model))
