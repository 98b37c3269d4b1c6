"""Reads a model for rewriting, after the checks of edgefc.modelfile. The file may be hostile."""

from pathlib import Path

import onnx
import onnx_ir as ir

from edgefc.errors import ModelError, UsageError, first_line
from edgefc.modelfile.admission import admit
from edgefc.modelfile.weights import is_ort_format, weight_files

OPSETS = 18, 23
"""The opsets in which edgefc's local functions can be written. Later opsets of a model use functions of the last."""

_FUNCTIONS_IR = 8  # the first IR version with local functions


def read(path: Path, *, functions: bool = False) -> ir.Model:
    """Reads a model. External data are read when they are used.

    Args:
        functions: the result must be able to contain edgefc's local functions. A model with an older opset is
            converted.

    Raises:
        UsageError: the file cannot be read, or is in onnxruntime's own format.
        ModelError: the file is not valid, or it cannot be converted.
    """
    admit(path)
    if is_ort_format(path):
        raise UsageError(
            f"cannot change {path}: it is in onnxruntime's own format. Give the .onnx file it was made from."
        )
    try:
        onnx.checker.check_model(str(path))
        model = ir.load(path)
    except Exception as error:  # protobuf, onnx and onnx-ir raise errors of many classes
        raise ModelError(f"{path} is not a valid ONNX model: {first_line(error)}. Export it again.") from None
    if functions:
        model = _with_functions(model, path)
    if model.ir_version < 4:  # all initializers are inputs too, but nobody feeds them
        inputs = [value for value in model.graph.inputs if not value.is_initializer()]
        model.graph.inputs[:] = inputs
        model.ir_version = 4
    return model


def opset_of(model: ir.Model) -> int:
    """The version of the standard domain, 0 if the model does not import it."""
    return model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 0))


def file_bytes(path: Path) -> int:
    """The bytes of a model and of its external data files."""
    return path.stat().st_size + sum(each.stat().st_size for each in weight_files(path))


def _with_functions(model: ir.Model, path: Path) -> ir.Model:
    lowest, _ = OPSETS
    given = opset_of(model)
    if given < lowest:
        advice = f"Export it with opset {lowest}, or use only Half in the plan."
        try:
            converted = onnx.version_converter.convert_version(onnx.load(str(path)), lowest)
            model = ir.from_proto(converted)
        except Exception as error:  # the converter raises errors of many classes
            raise ModelError(
                f"{path} has opset {given}, this plan needs {lowest}, and onnx cannot convert it: {first_line(error)}. "
                + advice
            ) from None
    model.ir_version = max(model.ir_version, _FUNCTIONS_IR)
    return model
