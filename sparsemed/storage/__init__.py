"""Stored bytes: on a disk, where files are written wholly or not at all, or in a network.

Knows neither HDF5 nor NumPy.

May import: nothing.
"""
