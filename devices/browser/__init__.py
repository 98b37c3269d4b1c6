"""A browser as a device: a page answers the questions of the probes with onnxruntime-web (README.md)."""
