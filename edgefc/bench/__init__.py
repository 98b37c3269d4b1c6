"""Compare structured layers with the dense layer that they replace, and with other replacements of the dense layer.

limits.py     peak rates of this machine: bytes read, multiply-adds
models.py     the competitors as .onnx files: dense, int8, int4, low rank, structured
check.py      comparison of their outputs with float64, before they are timed
plan.py       the layers and sizes to compare; which are left out, and why
make.py       the model files of one size
measure.py    bench(): time all layers of one size in one run, interleaved
record.py     BenchRecord: the result of bench() and its file format
table.py      the record as text tables
picture.py    the record as a heat map
"""
