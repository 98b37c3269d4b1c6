"""Saves a graph to files.

write.py stages the files and moves them to their place. weights_file.py names and removes external data files.
"""
