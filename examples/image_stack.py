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

# Single frames and any choice of them will do, too.
one = background.subtract(images[500], 500)
some = background.subtract(images[[3, 500]], [3, 500])
print("by", int(some.min()), "of all frames chosen:", np.array_equal(some[1], one))

# Background images, one a frame or by the numbers of frames.
brightness = [float(image.mean()) for image in background]
print("brightness of the first background:", round(brightness[0]), background[[0, 500]].shape)
