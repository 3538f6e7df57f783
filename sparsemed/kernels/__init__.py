"""Numba, and only here: kernels, how they are compiled, and threads that share out their work.

`median` and `fletcher32` have the kernels, `compiling` and `cores` what makes them dependable.

May import: nothing.
"""
