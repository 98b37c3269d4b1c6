"""The operators: one file each, with its declaration (OPERATOR), its bodies and its reference.

registry.py finds the files; nothing lists them. export/operator.py says what a declaration holds.
"""
