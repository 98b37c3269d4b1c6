"""The parts that the operators in ops/ are built from.

    body.py         writes one ONNX local function, operator by operator
    seeded.py       the seeded generator in ONNX operators
    projection.py   the seeded matrix of the PRP layers, a band of rows at a time
    tiles.py        the real DFT over tiles of circulants
    packed.py       packed codes of quantised layers; conv.py: dense convolutions
    activations.py  element-wise functions; recurrent.py: the steps of an LSTM
    described.py    the description of a node for inspect
    reference.py    functions that the references share, in numpy float64

Imports neither torch nor onnxscript: inspect reads the operators without them.
"""
