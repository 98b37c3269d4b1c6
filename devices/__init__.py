"""What a device is and how to reach it. This machine needs neither: edgefc.runtime measures it directly.

connect.py     from a name to a runner; many.py: several at once
remote.py      the runner of a board: asks the agent there, and answers.py checks what it says
host.py        Board: one connection to an agent (wire.py, lines.py); pack.py makes the agent, boot.py starts it
agent.py       what runs on a board, with store.py, facts.py and install.py
transports/    ways to a board: ssh, adb, an emulated arm64 folder (userland.py), this machine
browser/       the runner of a browser
profiles/      facts about kinds of devices (profile.py); inventory.py: the user's own devices
check.py, provision.py, estimate.py    what the commands of the same names do
"""
