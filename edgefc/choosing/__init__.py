"""Chooses what each layer of a model becomes under a budget. Knows neither torch nor onnx: numpy and the plan's types.

    subject.py    what is chosen for: the layers of a model, and the loss of the model with some of them replaced
    budget.py     Budget: bytes=0.25, numbers=1000000, latency=2ms@device, max-drop=0.01
    costs.py      what a plan costs, in the unit of the budget

A loss is a number of the whole model's outputs: 0 if they are unchanged. The predicted loss of a plan is the sum of the
losses of the model with one layer replaced.
"""
