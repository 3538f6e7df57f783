"""The RT-DC file format (HDF5): what a measurement holds, and how results join it."""
