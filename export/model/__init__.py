"""The torch model: creates it from a SOURCE, loads weights, and restores its state after use.

source.py, weights.py              SOURCE and weights file of the command line
isolation.py                       undoes changes that the user's code makes to the process
state.py, snapshot.py, writes.py   eval mode while a model is examined, then the original state
"""
