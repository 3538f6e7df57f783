"""HDF5 files, read with distrust and never left half written.

Knows nothing of RT-DC.

May import: storage.
"""
