"""edgefc demo: the recipe digits-mlp, exported and profiled.

run.py     demo(): train by the recipe harness, export, profile, print
costs.py   in what each file costs more or less than the first, as sentences

Accuracy and its statistics are those of edgefc.recipes; files come from edgefc.export, figures from edgefc.runtime.
"""
