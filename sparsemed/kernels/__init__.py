"""Numba kernels: all use of Numba is here.

`median` and `fletcher32` have the kernels, `compiling` compiles and caches them, `cores` shares out
their work.

May import: nothing.
"""
