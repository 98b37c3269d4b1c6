"""Public facts about kinds of devices: one TOML file each. profile.py reads and checks them."""
