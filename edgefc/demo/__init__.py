"""edgefc demo: one multilayer perceptron on real digits, dense and structured, trained, exported and measured.

data.py       the digits, split once per seed
models.py     the perceptron with each kind of layer; factories for edgefc verify
train.py      one training: a recipe and a seed -> weights and the number of test digits it gets right
kept.py       finished trainings in the folder, taken up again only if they still give what they claim
results.py    Results, and its file format
findings.py   what the results show, and what they do not
report.py     Results as a table, as sentences and as a plot
run.py        demo(): all of it in turn
"""
