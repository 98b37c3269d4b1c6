"""Probes: measurements in separate processes, here or on a board. They need only numpy and onnxruntime.

    contracts.py  the types of each probe's question and answer; plain.py: converts them to and from JSON
    child.py      asks a child process; ends.py: why a child ended without an answer
    start.py      the main program of a child process, which ends with its parent or at its time limit
    trial, load, memory, run, steady, work, facts   the probes: each answers one question
    opening.py    creates a probe's session
    rounds.py     warm-up and the timing loop of steady.py; stats.py: settled(), the rule that ends the warm-up, medians
                  and intervals
    machine.py, heat.py   facts about the machine, which sysfs.py reads
    executed.py   the nodes that onnxruntime ran; null_model.py: a model that does nothing

Imports the modules of runtime/, but no other subfolder of it.
"""
