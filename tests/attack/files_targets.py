"""The targets of a hostile model: Session, and each command that reads files.

A target takes the model, its base model and a random.Random. It returns a result as harness.Case.act does.
"""

import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from edgefc.runtime import Session, native
from edgefc.runtime.profiling.request import model_file, models_of
from edgefc.runtime.session import TensorInfo
from tests.attack import files_models
from tests.attack.files_models import Base
from tests.attack.harness import command
from tests.attack.outcome import Fault, Outcome
from tests.support import cli_models

Array = NDArray[Any]
Target = Callable[[Path, Base, random.Random], int | Outcome | None]
MOST = 1 << 20  # elements of a generated input or output


def session(model: Path, mode: str = "auto") -> None:
    """Load, run, and compare with onnxruntime alone on the same file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine = Session(model, native=mode)
    feeds = drawn(mine.inputs)
    if feeds is None:
        return
    found = mine.run(feeds)
    expected = by_onnxruntime(model, feeds, mine.native_variant is not None)
    for (name, value), theirs in zip(found.items(), expected, strict=True):
        if not same(value, theirs):
            raise Fault("wrong value", f"output {name!r} is {value!r:.200}, but onnxruntime returns {theirs!r:.200}")


def by_onnxruntime(model: Path, feeds: dict[str, Array], kernels: bool) -> list[Any]:
    """The outputs of onnxruntime without edgefc, loaded in the same way."""
    outputs: list[Any] = opened(model, kernels).run(None, feeds)
    return outputs


def opened(model: Path, kernels: bool) -> Any:
    """A plain onnxruntime session without logging."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    if kernels:
        chosen = native.choose("on")
        assert chosen is not None
        options.register_custom_ops_library(chosen[0])
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def same(mine: Any, theirs: Any) -> bool:
    """Whether arrays are equal, with NaN equal to NaN, and floats within the error of another summation order."""
    if not isinstance(mine, np.ndarray) or not isinstance(theirs, np.ndarray):
        return type(mine) is type(theirs)
    if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        return False
    if mine.dtype.kind != "f":
        return bool((mine == theirs).all())
    a, b = mine.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(all="ignore"):
        scale = np.abs(b[np.isfinite(b)]).max(initial=0)
        return bool(np.allclose(a, b, rtol=1e-3, atol=1e-4 * scale, equal_nan=True))


def drawn(inputs: tuple[TensorInfo, ...]) -> dict[str, Array] | None:
    """One array per input, with size 2 for open axes. None if an input has no array type, or is huge."""
    random_, feeds = np.random.default_rng(0), {}
    for port in inputs:
        shape = [2 if isinstance(size, str) or size < 0 else size for size in port.shape]
        if port.dtype == "str" or "(" in port.dtype or len(shape) > 32 or np.prod(shape, dtype=float) > MOST:
            return None
        try:
            kind = np.dtype(port.dtype)
        except TypeError:
            return None
        whole = random_.integers(0, 2, shape)
        feeds[port.name] = (random_.standard_normal(shape) if kind.kind == "f" else whole).astype(kind)
    return feeds


def _session(mode: str) -> Target:
    return lambda model, base, rng: session(model, mode)


def inspect(model: Path, base: Base, rng: random.Random) -> int:
    return command("inspect", model, *_json(rng))


def estimate(model: Path, base: Base, rng: random.Random) -> int:
    return command("estimate", model, "--device", rng.choice(("pi5", "pi3")), *_json(rng))


def profile(model: Path, base: Base, rng: random.Random) -> int:
    return command("profile", model, "--time", "0.001", "--no-memory", "--native", rng.choice(("auto", "off")))


def verify(model: Path, base: Base, rng: random.Random) -> int:
    """If verify accepts the file, the file must be right on the example too."""
    code = command("verify", model, base.source or "tests.support.cli_models:dense", *_json(rng))
    if code == 0 and base.source is not None:
        layer, x = getattr(files_models, base.source.rpartition(":")[2])()
        (port,) = opened(model, False).get_inputs()
        (y, *_) = by_onnxruntime(model, {port.name: x.numpy()}, False)
        with torch.no_grad():
            expected = layer(x)
        expected = expected[0] if isinstance(expected, tuple) else expected
        if not same(y, expected.numpy()):
            raise Fault("wrong value", "verify reports agreement, but the outputs differ")
    return code


def export_over(model: Path, base: Base, rng: random.Random) -> int | Outcome:
    """Export a good model over the hostile file. The file must then be the new model and compute its outputs."""
    code = command("export", "tests.support.cli_models:dense", "-o", model, "--force", "--no-verify")
    if code == 0:
        layer, x = cli_models.dense()
        with torch.no_grad():
            expected = layer(x).numpy()
        try:
            (y,) = by_onnxruntime(model, {"input": x.numpy()}, False)
        except Exception as error:
            raise Fault(
                "torn", f"export reports that it wrote the model, but the model does not run: {error}"
            ) from None
        if not same(y, expected):
            raise Fault("torn", "export reports that it wrote the model, but the file is another model")
    return code


def sent(model: Path, base: Base, rng: random.Random) -> None:
    """profile must hash, measure and send exactly the files that the model names, anywhere in the message."""
    (checked,) = models_of(model)
    file = model_file(os.fspath(checked.path), model.name)
    try:
        by_onnxruntime(model, {}, False)
    except Exception as error:
        if "Missing Input" not in str(error) and "input feed" not in str(error):
            return  # onnxruntime does not load it: nothing to compare with
    try:
        names = set(locations(onnx.load(model, load_external_data=False)))
    except Exception:
        return  # onnx rejects some files that onnxruntime reads
    named = {Path(name).name for name in names if (model.parent / name).is_file()}
    if {weights.name for weights in file.weights} != named:
        raise Fault("wrong value", f"its weights files are {file.weights}, but the model names {sorted(names)}")


def locations(message: Any) -> list[str]:
    """The names of external data files in this message and all nested ones."""
    if isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL:
        return [entry.value for entry in message.external_data if entry.key == "location"][-1:]
    names = []
    for field, value in message.ListFields():
        if field.message_type is not None and field.name != "external_data":
            for each in value if field.is_repeated else [value]:
                names += locations(each)
    return names


def _json(rng: random.Random) -> list[str]:
    return ["--json", "out.json"] if rng.random() < 0.5 else []


# name, target, weight
TARGETS: tuple[tuple[str, Target, int], ...] = (
    ("Session, native on", _session("on"), 20),
    ("Session, native auto", _session("auto"), 15),
    ("Session, native off", _session("off"), 25),
    ("inspect", inspect, 16),
    ("sent", sent, 6),
    ("verify", verify, 9),
    ("estimate", estimate, 6),
    ("export over it", export_over, 2),
    ("profile", profile, 1),
)


def choose(rng: random.Random, among: tuple[tuple[str, Target, int], ...] = TARGETS) -> tuple[str, Target]:
    name, target, _ = rng.choices(among, [weight for _, _, weight in among])[0]
    return name, target
