"""The RT-DC file format: what a measurement holds, and how results join it.

May import `hdf5`, `frames`, `method`, and what is below these.
"""
