"""Traces a torch model on example inputs with torch.export, and checks the dynamic axes of the graph.

examples.py > adapter.py > preparing.py > trace.py      the steps
axes.py, dynamic_shapes.py, graph_axes.py, guards.py    dynamic axes: plan, names, checks
caches.py, experts.py, plain.py, autocast.py, masks.py  adaptations for models that torch.onnx cannot export directly
"""
