"""inspect(): what a file holds. Needs onnx, not torch.

inspector.py    the report              stored.py       every stored tensor
attributes.py   attributes of nodes     candidates.py   which structured layers fit a dense weight
"""
