"""edgefc demo: compresses a trained sentence encoder, exports it, and measures the files.

run.py         demo(): compress, export, verify, profile; one table
minilm.py      the model, MiniLM-L6; make_model is a SOURCE for the commands
docstrings.py  sentences: the docstrings of the standard library
likeness.py    how far the vectors of a file are from those of the original model
table.py       the table
costs.py       sentences that compare the costs of each file with those of the first

edgefc.compressing compresses, edgefc.export writes and verifies the files, edgefc.runtime measures them.
"""
