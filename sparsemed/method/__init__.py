"""The method, in the order of its reading; `compute` has it on one page.

Knows no files and no executors: frames come through `sparsemed.frames.source.FrameSource`, time is
an array, and ranges are done by a `sparsemed.method.ranges.Runner`.

May import: frames, storage, kernels.
"""
