"""torch model -> one .onnx file whose structured layers are `edgefc::` nodes. Needs torch and onnx."""

from edgefc.errors import needs_extra

with needs_extra("torch", "edgefc.export"):
    from edgefc.export.exporter import ExportReport as ExportReport
    from edgefc.export.exporter import TensorInfo as TensorInfo
    from edgefc.export.exporter import export as export
    from edgefc.export.verifier import VerifyReport as VerifyReport
    from edgefc.export.verifier import verify as verify

__all__ = ["ExportReport", "TensorInfo", "VerifyReport", "export", "verify"]
