"""inspect(): reports the content of a file. Needs onnx, not torch.

inspector.py    the report                        stored.py       reads every stored tensor
attributes.py   checks the attributes of nodes    candidates.py   structured layers that can replace a dense weight
"""
