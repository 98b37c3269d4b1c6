"""A browser as a device: a page on loopback answers the probes' questions through onnxruntime-web (README.md)."""
