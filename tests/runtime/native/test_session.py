"""What Session and records say of the native kernels: one file with and without them, other types, no library."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

import edgefc
from edgefc import generator, testing
from edgefc.errors import ModelError, UsageError
from edgefc.export import export
from edgefc.runtime import Session, native, profile
from edgefc.runtime.native import build
from tests.support import native_models
from tests.support.native_models import CPUS


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return native_models.library(tmp_path_factory)


@pytest.fixture
def loaded(library: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Session loads the library of this test."""
    monkeypatch.setattr(native, "library_path", lambda: library)
    return library


@torch.no_grad()
def test_a_session_with_int8_activations(loaded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = edgefc.PRPLinear(60, 50, distribution="rademacher").eval(), torch.randn(3, 60)
    export(layer, x, tmp_path / "m.onnx")
    exact, rounded = (Session(tmp_path / "m.onnx", activation_dtype=name) for name in ("float32", "int8"))
    feeds = {exact.inputs[0].name: x.numpy()}
    answers = [next(iter(each.run(feeds).values())) for each in (exact, rounded)]

    assert 1e-6 < np.square(answers[0] - answers[1]).sum() / np.square(answers[0]).sum() < 1e-3
    assert rounded.settings["edgefc.activations"] == "int8" and "edgefc.activations" not in exact.settings
    with pytest.raises(UsageError, match=r"^activation_dtype is 'int4'\. Choose one of: float32, int8\.$"):
        Session(tmp_path / "m.onnx", activation_dtype="int4")
    with pytest.raises(UsageError, match=r"^activation_dtype='int8' requires native kernels"):
        Session(tmp_path / "m.onnx", native="off", activation_dtype="int8")
    export(layer.double(), x.double(), tmp_path / "d.onnx")
    with pytest.raises(UsageError, match=r"^activation_dtype='int8' requires native kernels"):
        Session(tmp_path / "d.onnx", activation_dtype="int8")
    monkeypatch.setattr(native, "library_path", lambda: None)
    with pytest.raises(UsageError, match=r"^activation_dtype='int8' requires native kernels"):
        Session(tmp_path / "m.onnx", activation_dtype="int8")


@torch.no_grad()
@pytest.mark.parametrize("distribution", generator.CODEBOOKS)
def test_one_file_with_and_without(loaded: str, tmp_path: Path, distribution: str) -> None:
    layer, x = edgefc.PRPLinear(60, 50, distribution=distribution, seed=2**63 + 5).eval(), torch.randn(3, 60)
    export(layer, x, tmp_path / "m.onnx")
    sessions = {mode: Session(tmp_path / "m.onnx", native=mode) for mode in ("auto", "on", "off")}
    name = sessions["on"].inputs[0].name

    answers = {mode: next(iter(s.run({name: x.numpy()}).values())) for mode, s in sessions.items()}

    assert sessions["auto"].native_variant == sessions["on"].native_variant in CPUS
    assert sessions["off"].native_variant is None
    for answer in answers.values():
        testing.assert_close(answer, layer.double()(x.double()).numpy(), nmse=1e-12, what="native")
    np.testing.assert_array_equal(answers["auto"], answers["on"])


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_run_by_their_bodies(loaded: str, tmp_path: Path, dtype: torch.dtype) -> None:
    layer, x = edgefc.PRPLinear(60, 50, dtype=dtype).eval(), torch.randn(3, 60, dtype=dtype)
    export(layer, x, tmp_path / "m.onnx")

    assert Session(tmp_path / "m.onnx").native_variant is None
    with pytest.raises(ModelError, match=r"its operator PRPLinear has an input of type (double|float16)"):
        Session(tmp_path / "m.onnx", native="on")


@pytest.mark.slow
def test_a_record_says_what_was_loaded(loaded: str, tmp_path: Path) -> None:
    if Path(loaded).resolve() != build.HERE / native.NAME:
        pytest.skip("child processes look for the installed library")
    export(edgefc.PRPLinear(60, 50).eval(), torch.randn(1, 60), tmp_path / "m.onnx")
    quick = {"min_time_s": 0.01, "processes": 1, "rounds": 1, "launches": 1, "memory": False}
    with_it, without = (profile(tmp_path / "m.onnx", native=mode, **quick) for mode in ("on", "off"))
    rounded = profile(tmp_path / "m.onnx", activation_dtype="int8", **quick)

    assert with_it.config.native == "on" and with_it.cells[0].native_variant in CPUS
    assert with_it.config.activation_dtype == "float32" and rounded.config.activation_dtype == "int8"
    assert without.config.native == "off" and without.cells[0].native_variant is None


def test_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library_path", lambda: None)

    assert native.choose("auto") is None and native.choose("off") is None
    with pytest.raises(
        UsageError, match=r"^native is 'on', but edgefc was installed without native kernels\. Install a C"
    ):
        native.choose("on")


def test_a_library_of_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / native.NAME).write_bytes(b"\x7fELF, and no more")
    monkeypatch.setattr(native, "library_path", lambda: str(tmp_path / native.NAME))

    assert native.choose("auto") is None
    with pytest.raises(UsageError, match="but the kernels cannot be loaded"):
        native.choose("on")


def test_words_that_mean_nothing(loaded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^native is 'fast'\. Choose one of: auto, on, off\.$"):
        native.choose("fast")
    monkeypatch.setenv("EDGEFC_NATIVE_CPU", "sse9")
    with pytest.raises(UsageError, match=r"^EDGEFC_NATIVE_CPU is not a variant"):
        native.choose("auto")
    with pytest.raises(Exception, match="EDGEFC_NATIVE_CPU is sse9, but this processor supports only portable"):
        ort.SessionOptions().register_custom_ops_library(loaded)
