"""Replaces the layers of a torch model by a plan, and fits them to what the trained layers did.

    finding.py      the layers of a model that a plan can name, and why some cannot be replaced; pairs.py
    deciding.py     what each of them becomes
    serving.py      which configuration can replace which kind of layer; making.py makes and fits the layers;
                    low_rank.py, likeness.py
    statistics.py   what the inputs of the layers look like; distributed.py, resuming.py, calibration.py
    work.py         all new layers of a model; rivals.py: what quantisation would do at their bytes
    refitting.py    fits layers again, for the inputs that they get in the replaced model
    surgery.py      changes of a model that can be undone
    replacing.py    replace()
    measuring.py    the change of the model's outputs, bytes, time; report.py, warnings.py: what replace() tells
    saving.py       save() and load(): plan and weights in one folder

edgefc.replace, edgefc.save and edgefc.load are the public names.
"""
