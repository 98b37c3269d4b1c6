"""Checks of an untrusted .onnx file, made without the onnx package and before onnxruntime loads the file.

    admission.py   admit(): the check that every command and Session run first
    functions.py   check_functions(): the cost of inlining the local functions of a file
    weights.py     tensors whose data are in other files (external data)
    places.py      the allowed locations of those files
    attributes.py  check_attributes(): the attributes of edgefc nodes
    protobuf.py    a reader for the fields of a protobuf message in a file

These modules import only the standard library: the agent on a board includes them (devices/board/pack.py).
"""  # fmt: skip
