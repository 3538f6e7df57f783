"""The RT-DC file format: reads measurements and writes results.

May import: method, frames, hdf5, storage, kernels.
"""
