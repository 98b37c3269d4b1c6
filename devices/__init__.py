"""Devices other than this machine, and the connections to them. edgefc.runtime measures this machine directly.

    connect.py     the transport and the runner of a device by its name
    many.py        one profile call on several devices
    inventory.py   the user's own devices
    profiles/      facts about kinds of devices, one TOML file per kind
    board/         the local side of a connection to a board; devices check and devices provision
    agent/         the program that runs on a board
    transports/    connections to a board: ssh, adb, an emulated arm64 folder (userland.py), this machine
    browser/       the runner of a browser
    estimating/    estimate(): predictions for a device that is not available

Imports runtime/, never torch, layers/ or export/.
"""
