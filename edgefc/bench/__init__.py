"""What every structured layer costs beside the dense layer that it replaces, and beside what else could replace it.

limits.py     what this machine can do at most: bytes read, multiply-adds
models.py     the competitors as .onnx files: dense, int8, int4, low rank
check.py      their outputs against float64, before they are timed
plan.py       which layers at which sizes; what is left out, and why
measure.py    bench(): all of a size in one run, interleaved
record.py     BenchRecord: what bench() returns, and its file format
table.py      the record for people
picture.py    the record as a heat map
"""
