"""edgefc recipe: small experiments that put each layer family beside a dense layer and beside one of the same size.

NAME.py       one recipe each: the constant RECIPE
recipe.py     what a recipe is: Recipe, Arm, Metric, Job, Outcome
data.py       data that Python packages ship, and how they are split
folders.py    the papers' own data sets, from a folder of the user's
fit.py        Adam for a number of steps, the same for every arm
sources.py    what results depend on
sizes.py      how large models are; the plain model that is as large as another
found.py      the recipes there are
harness.py    run(): all arms with all seeds, kept as they finish
results.py    Results, and its file format
findings.py   what the results show, and what they do not
report.py     Results as a table and as sentences
pictures.py   plot.png
weights.py    the models of seed 0, kept to be exported
measured/     published results; README.md shows them

Small data shows that a layer trains and what it costs; it does not reproduce a paper.
"""
