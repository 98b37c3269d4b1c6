"""The structured layers. Each family has a folder, and common/ holds the code that several families use. Needs torch.

    circulant/   linear, conv, lstm: blocks of circulant matrices behind seeded sign flips
    prp/         linear, conv, embedding: a random matrix from a seed, scaled on both sides
    eugen/       linear: random features and one small matrix
    bilinear/    linear, conv, embedding, lstm: Kronecker products
    tied/        ffn, bottleneck, attention: one matrix used as W and as its transpose
    attention/   multi-head attention whose projections are structured layers
    common/      seeds, input checks, state dicts, LSTM recurrence, the ONNX node that a layer is exported as

A family imports common/ and no other family. The one exception: tied/attention.py imports attention/.
Layers do not import ONNX packages, export/ or runtime/.
"""
