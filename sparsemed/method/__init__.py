"""The method, in the order of its reading; `compute` has it on one page.

Knows no files: frames come through `sparsemed.frames.source.FrameSource`, and time is an array.
May import `frames`, `kernels`, and what imports nothing of ours.
"""
