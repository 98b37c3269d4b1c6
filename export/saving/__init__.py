"""A graph -> files: write.py stages and renames them, weights_file.py names and removes the weights beside a graph."""
