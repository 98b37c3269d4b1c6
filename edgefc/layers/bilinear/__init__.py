"""Bilinear layers: linear, conv, embedding and lstm. kronecker.py has their products, factors.py their sizes."""
