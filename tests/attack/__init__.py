"""An attack on edgefc: seeded hostile cases, each in a process of its own, and a report of what went wrong.

    python -m tests.attack files_bytes --count 200 --seed 1
    python -m tests.attack files_bytes --seed 1 --case 17      (one case again, with all that it printed)

A kind of attack is a module of this folder with

    COUNT                          how many cases the full attack has
    case(rng, number, folder)      the harness.Case of a number; rng is seeded by kind, seed and number alone
    prepare(folder)                optional: writes the files that cases start from, in a process of its own

outcome.py says what counts as a fault. harness.py runs the cases.
"""
