"""estimate(): predict latency and memory on a device that is not available.

estimate.py      the roofline model
rates.py         the rates of a device: computation and data transfer
constants.json   the fitted constants of the model
work.py          the steps of a run, from products.py (arithmetic), touched.py (bytes) and layers.py (torch layers)
"""
