"""What the operators in ops/ are built with.

    body.py         writes one ONNX local function, operator by operator
    seeded.py       the generator of seeded numbers in ONNX operators
    projection.py   the seeded matrix of the PRP layers, a band of rows at a time
    tiles.py        the real DFT over tiles of circulants
    activations.py  element-wise functions; recurrent.py: the steps of an LSTM
    described.py    what inspect says of a node
    reference.py    the pieces of the references, numpy float64

Imports neither torch nor onnxscript: inspect reads the operators without them.
"""
