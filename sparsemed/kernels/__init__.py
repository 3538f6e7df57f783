"""Numba, and only here: kernels, how they are compiled, and threads that share out their work.

`median` has the kernels, `compiling` and `cores` what makes them dependable.

May import: nothing.
"""
