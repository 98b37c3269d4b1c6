"""The text of edgefc/recipes/TRAINING.md. $names stand for tables and sentences, which training.py makes of results."""

TEXT = """# Training with structured layers

This page has what the recipes measured of models that are trained from scratch with a tenth of the numbers of a dense
model. `python -m tests.recipes.training` writes it from the results in [measured](measured). `edgefc recipe NAME`
repeats a measurement.

```python
torch.manual_seed(0)
model = make_model()
edgefc.replace(model, {"body.*": edgefc.plan.Monarch(blocks=16)}, init="new")
optimiser = torch.optim.Adam(model.parameters(), 0.01)
```

- `init="new"` draws the initial values and the seeds of signs and projections from torch's generator, so call
  `torch.manual_seed` first.
- Make the optimiser after `replace`, which makes new parameters.
- Outputs of new layers have the variance of a new torch layer, or that of the layer's paper: `Circulant` and `PRP` have
  variance 1 for inputs of variance 1, `Bilinear` has Glorot's, and the others have 1/3, as `torch.nn.Linear`.

$missing
## Which families reach dense quality at a tenth

A value in bold is at most one standard deviation of the dense model worse than the dense model. The number in brackets
is how many of these standard deviations it is worse; a minus sign means that it is better.

$arms

"x2" has layers of twice the width, again with a tenth of the numbers. "PRP" without a rank has far fewer numbers than a
tenth. "Tied, narrow" and "narrow dense" are narrower models. "narrow dense, int8" and "narrow dense, int4" are dense
models that take a tenth of the bytes after they are rounded; they are trained with more numbers. With three seeds, a
standard deviation is uncertain by a factor of about two.

$summary

## Learning rates

The values on held-out training data for each rate, the best first, with one seed, which is not one of those above.

$rates

$rate_summary

## Warm-up and the initial scale

The MLP with half of the steps, at the rate 0.01 if no other is named (recipe mnist-choices).

$choices

$choice_summary

## Width

The bilinear paper makes layers wider. With the same number of numbers, a wider bilinear layer has fewer terms.

$width

## The papers

$papers

The papers train larger models for longer, on more data. These figures do not reproduce them.

## Sizes and times

$sizes

## Conditions

$conditions
"""
