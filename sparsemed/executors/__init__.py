"""Where work is done: here, by an executor of Python's kind, or by a cluster of Dask's.

`rounds` sends tasks out and takes in what comes of them; `pool` and `dask_cluster` know the two
kinds of workers. Dask is imported only here, and only where somebody has it.

May import: kernels.
"""
