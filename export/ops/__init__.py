"""The operators: one file each, with its declaration (OPERATOR), its bodies and its reference.

registry.py finds the files; there is no list of them. export/operator.py documents the declaration.
"""
