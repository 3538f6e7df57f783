"""Where frames come from: arrays, and chunks of HDF5 datasets read by all cores.

`source` is the one narrow interface, `opening` says which reader suits. Knows nothing of RT-DC.

May import: hdf5, storage, kernels, executors (whether this is a worker of Dask).
"""
