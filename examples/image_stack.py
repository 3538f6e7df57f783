"""The background of images that are already in memory."""

import numpy as np

import sparsemed

# Any stack of uint8 or uint16 images will do; here is one with a cell in it.
rng = np.random.default_rng(0)
images = rng.integers(118, 123, size=(1000, 80, 320), dtype=np.uint8)
images[500, 30:50, 100:120] -= 40

background = sparsemed.compute_background(
    images,
    time=np.arange(1000) / 100,  # seconds
    kernel_size=100,
    split_time=2.0,
)
print(background)

corrected = background.subtract(images[495:505], start=495)
print("the darkest pixel is in frame", 495 + int(corrected.min(axis=(1, 2)).argmin()))
