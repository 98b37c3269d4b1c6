"""The structured layers: one folder per family, and common/ for what several families use. Needs torch.

    circulant/   linear, conv, lstm: blocks of circulant matrices behind seeded sign flips
    prp/         linear, conv, embedding: a random matrix from a seed, scaled on both sides
    eugen/       linear: random features and one small matrix
    bilinear/    linear, conv, embedding, lstm: Kronecker products
    tied/        ffn, bottleneck, attention: one matrix used as W and as its transpose
    attention/   multi-head attention whose projections are structured layers
    registry.py  finds the layers: every file of a family that has ENTRIES
    common/      seeds, checks, state dicts, LSTM recurrence, the node that a layer is exported as

README.md describes how to add a layer. A family imports common/ and not another family. Only attention/ and
tied/attention.py work together.
Layers do not import ONNX packages, export/ or runtime/.
"""
