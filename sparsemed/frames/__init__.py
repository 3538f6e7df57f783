"""Frames from arrays, stacks, and chunks of HDF5 datasets, read by all cores.

`source` is the one narrow interface; `opening` chooses the reader. Knows nothing of RT-DC.

May import: hdf5, storage, kernels, executors (whether this is a worker of Dask).
"""
