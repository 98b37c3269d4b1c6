"""profile(): sends a request to the probes and makes a record and a table of the answers.

    request.py    the checked arguments         staging.py   gives the files to the runner
    runner.py     where the probes run          profiler.py  asks the probes, cell by cell
    derive.py     answers -> parts of a record  warnings.py  reasons why a value may be unreliable
    record.py, parts.py, record_history.py, record_file.py   the record and its file
    table.py, names.py                          the table of a record, and the names of models

Imports runtime/ and runtime/probes/.
"""
