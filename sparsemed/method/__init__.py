"""The method; `compute` has it on one page.

Knows no files and no executors: frames come through `sparsemed.frames.source.FrameSource`, time is
an array, and a `sparsemed.method.ranges.Runner` scans ranges.

May import: frames, storage, kernels.
"""
