"""Measurements in, files out.

May import: background, live, result, report, quality, inputs, rtdc, method, frames, hdf5,
executors, storage, kernels.
"""
