"""The text of edgefc/recipes/TRAINING.md. $names stand for tables, which training.py makes from the results."""

TEXT = """PLACEHOLDER
$arms
$rates
$choices
$papers
$rivals
$conditions
"""
