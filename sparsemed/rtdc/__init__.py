"""The RT-DC file format: what a measurement holds, and how results join it.

May import: method, frames, hdf5, storage, kernels.
"""
