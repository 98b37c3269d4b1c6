"""Transports start a program on a device. There is one file per transport; base.py defines the interface."""
