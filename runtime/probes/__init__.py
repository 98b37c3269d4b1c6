"""Measurements that run in a process of their own, here or on a board: standard library, numpy and onnxruntime only.

    contracts.py  the type of each probe's question and answer; plain.py: these as JSON, and errors
    child.py      asks a child process; ends.py says why one ended without an answer
    start.py      the start of a child process: it ends with its parent, and at its time limit
    trial, load, memory, run, steady, work, facts   the probes: each answers one question
    opening.py    the session of a probe; rounds.py: the timing loop of steady.py; stats.py: medians and intervals
    machine.py, heat.py (sysfs.py reads for both), executed.py, null_model.py   what probes read and use

Imports the files of runtime/ and no other folder of it.
"""
