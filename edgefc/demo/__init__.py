"""edgefc demo: trains the recipe digits-mlp, exports its models and profiles the files.

run.py     demo(): train with the recipe harness, export, profile, print
costs.py   sentences that compare the costs of each file with those of the first

edgefc.recipes computes the accuracy and its statistics, edgefc.export writes the files, edgefc.runtime measures them.
"""
