"""The host's side of a connection to a board.

client.py     one connection to an agent; wire.py: its process and JSON lines; pack.py builds the agent's file
remote.py     the runner that profile() uses for a board
check.py, provision.py   the work of `edgefc devices check` and `provision`
"""
