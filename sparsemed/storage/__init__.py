"""Bytes on a disk: read at places, written wholly or not at all.

Knows neither HDF5 nor NumPy. Imports nothing of ours.
"""
