"""Numba, and only here: kernels, how they are compiled, and whose threads they use.

`median` has the kernel, `compiling` and `cores` what makes it dependable. Imports nothing of ours.
"""
