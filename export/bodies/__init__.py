"""The portable bodies: local functions in standard ONNX operators."""
