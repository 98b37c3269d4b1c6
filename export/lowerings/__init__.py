"""One file per layer: its local function in standard ONNX operators."""
