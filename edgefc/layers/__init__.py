"""The structured layers. Each family has a folder, and common/ holds the code that several families use. Needs torch.

    circulant/   linear, conv, lstm: block-circulant matrices after seeded sign flips
    prp/         linear, conv, embedding: a random matrix from a seed, scaled on both sides
    eugen/       linear: random features followed by one small matrix
    bilinear/    linear, conv, embedding, lstm: Kronecker products
    tied/        ffn, bottleneck, attention: one matrix used both as W and as W^T
    attention/   multi-head attention whose projections are structured layers
    common/      seeds, input checks, state dicts, LSTM recurrence, the ONNX node that a layer is exported as

A family imports common/ and no other family. The one exception: tied/attention.py imports attention/.
Layers do not import ONNX packages, export/ or runtime/.
"""
