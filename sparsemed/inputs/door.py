"""Opens frames of any kind, as the first kind of input that takes them."""

from os import PathLike, fspath
from os.path import exists, expanduser
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sparsemed.frames.choice import ANY, Choice
from sparsemed.hdf5.file_access import Policy, check_policy
from sparsemed.inputs.array import ArrayInput
from sparsemed.inputs.dataset import DatasetInput
from sparsemed.inputs.given import Input, Options
from sparsemed.inputs.measurement import MeasurementInput
from sparsemed.inputs.stack import StackInput
from sparsemed.kernels.cores import check_num_cpus
from sparsemed.method.result import Background
from sparsemed.storage.places import locate

NAMED = (DatasetInput, StackInput, MeasurementInput)
"""Kinds of input that have names; the first that takes a name opens it. All else is an array."""


def open_input(
    frames: Any,
    *,
    time: ArrayLike | None = None,
    frame_rate: float | None = None,
    basins: Policy = "any",
    num_cpus: int | None = None,
    choice: Choice = ANY,
    floats: type[np.unsignedinteger[Any]] = np.uint16,
) -> Input:
    """Open frames of any kind. Close the input by ``with``, or by its `close`.

    Parameters
    ----------
    frames : array-like of shape (N, H, W), or str or path
        An array, or the name of a stack or measurement.
    time, frame_rate, basins, num_cpus
        See `sparsemed.compute_background`.
    choice : Choice
        Which of several stacks or channels to take.
    floats : dtype
        The dtype in which floating-point frames are computed: uint16, or uint8 as in dcnum.

    Raises
    ------
    ValueError, TypeError, OSError, ImportError
        As `sparsemed.compute_background`.
    """
    check_policy(basins)
    cores = check_num_cpus(num_cpus)
    options = Options(time, frame_rate, basins, cores, num_cpus, choice, floats)
    if isinstance(frames, (str, PathLike)):
        frames = _at_home(frames)
        locate(frames)  # so that an empty name does not mean the working folder
    for kind in NAMED:
        if kind.takes(frames, choice):
            return kind(frames, options)
    return ArrayInput(frames, options)


def _at_home(name: str | PathLike[str]) -> str | PathLike[str]:
    """Expand a leading ``~`` to the home folder, as shells do, unless such a file exists."""
    text = fspath(name)
    is_at_home = text.startswith("~") and not exists(text)
    return expanduser(text) if is_at_home else name


def open_again(background: Background, num_cpus: int | None = None) -> Input:
    """Open the file that frames were read from, and check that it is still the same.

    The background must have an `identity`.

    Raises
    ------
    ValueError
        If the file was replaced or changed meanwhile. Also raises what `open_input` raises.
    """
    identity = background.identity
    assert identity is not None
    opened = open_input(
        identity.path,
        basins=background.basins,
        num_cpus=num_cpus,
        choice=identity.choice or ANY,
    )
    try:
        opened.require_same(identity)
    except BaseException:
        opened.close()
        raise
    return opened
