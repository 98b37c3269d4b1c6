"""What runs on a board, packed into one file: standard library only, Python 3.9.

    boot.py    the first program: finds or receives the agent and starts it
    main.py    answers questions on stdin and stdout; lines.py reads them; answers.py: the types of the agent's own
    store.py, install.py   the folder ~/.cache/edgefc      facts.py   what a board has
    holder.py  ends an agent that is stopped

Imports runtime/probes and edgefc/modelfile.
"""
