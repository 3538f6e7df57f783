"""HDF5 files, read without trust and never left half written.

Knows nothing of RT-DC.

May import: storage.
"""
