"""What a device is and how to reach it. This machine needs neither: edgefc.runtime measures it directly.

    answers.py     checks what devices answer
    connect.py     from a name to a runner; many.py: several at once; inventory.py: the user's own devices
    profiles/      facts about kinds of devices, one TOML file each
    board/         this side of a connection to a board, devices check and devices provision
    agent/         what runs on a board
    transports/    ways to a board: ssh, adb, an emulated arm64 folder (userland.py), this machine
    browser/       the runner of a browser
    estimating/    estimate(): a device that is not at hand

Imports runtime/, never torch, layers/ or export/.
"""
