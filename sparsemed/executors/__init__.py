"""Where work is done: in this process, by an executor of Python, or by a Dask cluster.

`rounds` submits tasks and yields their results; `pool` and `dask_cluster` know the two kinds of
workers. Dask is imported only here, and only if it is used.

May import: kernels.
"""
