"""Chooses what each layer of a model becomes under a budget. Knows neither torch nor onnx: numpy and the plan's types.

    subject.py    what is chosen for: the layers of a model, and the loss of the model with some of them replaced
    budget.py     Budget: bytes=0.25, numbers=1000000, latency=2ms@device, max-drop=0.01
    costs.py       what a plan costs, in the unit of the budget
    sweeping.py    measures every configuration of every layer; store.py keeps the results
    menu.py        the options of each layer; knapsack.py, uniform.py, neighbours.py: plans made of them
    choosing.py    choose() and compare(); choice.py: their result

A loss is a number of the whole model's outputs: 0 if they are unchanged. The predicted loss of a plan is the sum of the
losses of the model with one layer replaced.
"""
