"""What an .onnx file of unknown origin holds, read without the onnx package and before onnxruntime loads it.

    admission.py   admit(): the check that every command and Session make first
    functions.py   what the local functions of a file come to when onnxruntime writes them out
    weights.py     the tensors whose data lie in other files
    places.py      where those files may lie
    attributes.py  check_attributes(): those of edgefc nodes
    protobuf.py    the fields of a protobuf message, read from a file by position

The standard library only: the agent on a board carries these modules (devices/board/pack.py).
"""  # fmt: skip
