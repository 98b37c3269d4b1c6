"""Compresses a torch model under a budget: chooses what each layer becomes, replaces the layers, trains the result.

    compressing.py   compress()
    candidates.py    what each kind of layer can become
    layers.py        the layers of a model with what they can become
    samples.py       divides the calibration data; inputs.py: the statistics of the layers' inputs
    subject.py       the model as edgefc.choosing sees it; measures.py: its loss and the user's metric; prefix.py: runs
                     that leave out what is before a replaced layer
    picture.py       quality against size

edgefc.choosing decides, edgefc.replacing makes the layers, edgefc.training trains. edgefc.compress is the public name.
"""
