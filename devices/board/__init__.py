"""This side of a connection to a board.

client.py     one connection to an agent; wire.py: its program and JSON lines; pack.py makes the agent
remote.py     the runner of profile() on a board
check.py, provision.py   what the commands of the same names do
"""
