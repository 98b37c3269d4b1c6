"""edgefc recipe: small experiments that compare each layer family with a dense layer and with one of the same size.

NAME.py       one recipe each, as the constant RECIPE
recipe.py     the classes of a recipe: Recipe, Arm, Metric, Job, Outcome
data.py       data sets that Python packages contain, and their splits
downloaded.py the digits of MNIST, downloaded once
characters.py the task of predicting the next character of a text
tenth.py      the arms of the recipes that train with a tenth of the numbers; bodies.py: parts of their models
folders.py    the data sets of the papers, from a folder of the user
fit.py        training with Adam for a number of steps, the same for every arm
sources.py    fingerprint of everything that results depend on
sizes.py      sizes of models; the plain model with as many parameters as another
registry.py   the list of recipes
harness.py    run(): train all arms with all seeds, and store each result as it finishes
results.py    Results and its file format
findings.py   statistics and sentences about the results
report.py     Results as a table and sentences
pictures.py   plot.png
measured/     published results; README.md shows them
TRAINING.md   how to train structured layers, with the figures of the recipes

Small data shows that a layer trains and what it costs. It does not reproduce a paper.
"""
