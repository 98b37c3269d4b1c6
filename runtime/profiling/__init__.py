"""profile(): from a request over probes to a record and its table.

    request.py    what is asked, checked        staging.py   the files where the runner needs them
    runner.py     where the probes run          profiler.py  asks the probes, cell by cell
    derive.py     answers -> parts of a record  warnings.py  reasons not to trust a number
    record.py, parts.py, record_history.py, record_file.py   the record and its file
    table.py, names.py                          the record for people

Imports runtime/ and runtime/probes/.
"""
