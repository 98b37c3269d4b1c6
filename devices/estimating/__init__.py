"""estimate(): time and memory on a device that is not at hand.

estimate.py   the roofline        rates.py, constants.json   how fast a device computes and moves data
work.py       the steps of a run  products.py, touched.py, layers.py   what each step computes, touches, belongs to
"""
