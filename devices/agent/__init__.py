"""What runs on a board, packed into one file: standard library only, Python 3.9.

    boot.py    the first program: receives the agent if it is not in the cache, and starts it
    main.py    answers questions on stdin and stdout; lines.py reads lines; answers.py: types of the agent's own answers
    store.py, install.py   the folder ~/.cache/edgefc      facts.py   what a board has and lacks
    holder.py  ends an agent whose process is stopped

Imports runtime/probes and edgefc/modelfile.
"""
