"""Replaces the layers of a torch model by a plan, and fits them to what the trained layers did.

    finding.py      the layers of a model that a plan can name, and why some cannot be replaced
    serving.py      which configuration can replace which kind of layer, and how it is built and fitted
    statistics.py   what the inputs of the layers look like: moments, in streaming passes over the calibration data
    surgery.py      changes of a model that can be undone
    replacing.py    replace()
    measuring.py    the change of the model's outputs; the errors of layers
    saving.py       save() and load(): plan and weights in one folder

edgefc.replace, edgefc.save and edgefc.load are the public names.
"""
