"""The host's side of a connection to a board.

client.py      one connection to an agent; wire.py: its process and JSON lines; pack.py: builds the agent's file
remote.py      the runner that profile() uses for a board; its errors include those of a board without numpy
check.py       `edgefc devices check`: what a board has and lacks, such as numpy
provision.py   `edgefc devices provision`: installs what a board lacks
"""
