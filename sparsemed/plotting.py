"""Pictures of a background. Needs matplotlib (``pip install sparsemed[plot]``)."""

from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray


def plot_frame(frame: NDArray[Any], background: NDArray[Any], corrected: NDArray[Any]) -> Figure:
    """Draw a raw frame, its background, and the frame less its background.

    Parameters
    ----------
    frame, background : ndarray, shape (H, W)
        Drawn with one grey scale.
    corrected : ndarray, shape (H, W)
        Signed difference; drawn with a scale that is symmetric about 0.

    Returns
    -------
    matplotlib.figure.Figure
    """
    height, width = frame.shape
    figure = Figure(figsize=(8, 3 * (8 * height / width + 0.3)), layout="constrained")
    panels = figure.subplots(3, 1)
    greys = {"cmap": "gray", "vmin": float(frame.min()), "vmax": float(frame.max())}
    reach = max(1.0, float(abs(corrected).max()))
    signed = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
    contents = [
        ("raw frame", frame, greys),
        ("background", background, greys),
        ("frame − background", corrected, signed),
    ]
    for axes, (title, image, scale) in zip(panels, contents, strict=True):
        drawn = axes.imshow(image, interpolation="nearest", **scale)
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set_ylabel("y (pixel)")
        figure.colorbar(drawn, ax=axes, label="grey value", pad=0.01)
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    panels[-1].set_xlabel("x, along the flow (pixel)")
    return figure
