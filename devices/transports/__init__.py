"""Ways to start a program on a device: one file each, the interface in base.py."""
