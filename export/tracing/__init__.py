"""A torch model and example inputs -> the graph that torch.export traces, with its open axes checked.

examples.py > adapter.py > preparing.py > trace.py      the steps
axes.py, dynamic_shapes.py, graph_axes.py, guards.py    open axes: planned, named, checked
caches.py, experts.py, plain.py, autocast.py, masks.py  models that torch.onnx does not export as they are
"""
