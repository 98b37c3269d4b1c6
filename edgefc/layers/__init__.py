"""The structured layers, one file each. Needs torch."""
