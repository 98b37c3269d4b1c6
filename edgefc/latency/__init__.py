"""Times .onnx files on a device, and remembers the times.

    clock.py   Clock: a device, and the median time of a run of each file on it
    kept.py    times in the user's cache folder, by device, versions, and what the file is made of

The measurements are those of edgefc.runtime.profile(). Imports neither torch nor onnx.
"""
