"""Fuzzing of edgefc: seeded hostile cases, each in a separate process, and a report of the faults.

    python -m tests.attack files_bytes --count 200 --seed 1
    python -m tests.attack files_bytes --seed 1 --case 17      (repeat one case and show its output)

A kind of attack is a module of this folder with

    COUNT                          number of cases of the full attack
    case(rng, number, folder)      the harness.Case with this number; rng depends only on kind, seed and number
    prepare(folder)                optional: writes the files that the cases start from, in a separate process

outcome.py defines faults. harness.py runs the cases.
"""
