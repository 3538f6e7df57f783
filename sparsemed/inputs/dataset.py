"""Frames in a dataset of an HDF5 file, chosen by name."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

from sparsemed.frames.choice import Choice
from sparsemed.frames.labelled import as_frames
from sparsemed.frames.source import FrameOpener
from sparsemed.frames.stacks import stack_kind
from sparsemed.hdf5.stacks import open_dataset
from sparsemed.inputs.array import ArrayInput
from sparsemed.inputs.given import Options
from sparsemed.inputs.stack import StackInput
from sparsemed.storage.places import is_remote


class DatasetInput(StackInput):
    """A dataset of an HDF5 file that is no measurement: a stack.

    Parameters
    ----------
    given : str or path
    options : Options
        Its `choice` has the name of the dataset.

    Raises
    ------
    ValueError, OSError
        See `sparsemed.hdf5.stacks.open_dataset`.
    """

    @staticmethod
    def takes(given: Any, choice: Choice) -> bool:
        """Whether this is the name of a file that is no stack, and a dataset is chosen."""
        is_name = isinstance(given, (str, PathLike)) and not is_remote(given)
        return is_name and choice.dataset is not None and stack_kind(given) is None

    def _named(self, given: str | PathLike[str], choice: Choice) -> str:
        return f"{given}: {choice.dataset}"

    @contextmanager
    def _open(self, options: Options) -> Iterator[Any]:
        name = str(options.choice.dataset)
        with open_dataset(self._place, name, options.basins) as (dataset, self._states):
            yield dataset

    def _in_order(self, array: Any) -> Any:
        name = f"h5py.File({str(self._given)!r})[{self._choice.dataset!r}]"
        return as_frames(array, self._choice._replace(dataset=None), str(self.label), name)

    def open_part(self, begin: int, end: int) -> FrameOpener:
        """Return an opener of some frames: by the places of their chunks, or by the path."""
        return ArrayInput.open_part(self, begin, end)
