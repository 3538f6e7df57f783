"""Where work is done: here, by an executor of Python, or by a Dask cluster.

`rounds` sends tasks out and takes in what comes of them; `pool` and `dask_cluster` know the two
kinds of workers. Dask is imported only here, and only where somebody has it.

May import: kernels.
"""
