"""Code that several families of layers use. Imports no family.

entry.py      Entry: describes a layer for `edgefc layers`; onnx_node.py: the exported node, and argument checks
checkpoint.py, configuration.py, seed_reading.py, ranks.py   the seed and the configuration in the state dict
seeded.py     the seeded matrix in torch; device_cache.py keeps tensors that are generated from a seed
trained.py, effective.py   trained layers that a structured layer replaces, and their effective weights
low_rank.py, descent.py    truncated SVD and conjugate gradients, for fits
recurrent.py, windows.py, activations.py, no_weight.py   LSTMs, convolutions, activations, the attribute `weight`
exact.py      marks arithmetic without rounding errors, for verify
facts.py      facts that the reader of ONNX files needs too, without torch
"""
