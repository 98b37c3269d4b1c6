"""Public facts about kinds of devices, one TOML file per kind. profile.py reads and checks the files."""
