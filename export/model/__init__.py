"""The torch model: made from a SOURCE, loaded with weights, and put back as it was.

source.py, weights.py      SOURCE and weights file of the command line
isolation.py               what the user's code may change of the process
state.py, snapshot.py, writes.py   eval mode for as long as a model is examined, then everything as before
"""
