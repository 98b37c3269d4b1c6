"""Dense layers whose trained weights are stored in few bits. packing.py has the codes, rotation.py the rotation."""

PAPER = "none: storage of dense weights"
CLAIM = "a trained layer in fewer bytes"
