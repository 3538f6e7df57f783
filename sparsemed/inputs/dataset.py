"""Frames in a dataset of an HDF5 file, chosen by name."""

from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any, Self

from sparsemed.frames.choice import ANY, Choice
from sparsemed.frames.stacks import stack_kind
from sparsemed.hdf5.stacks import open_dataset
from sparsemed.inputs.array import ArrayInput
from sparsemed.inputs.given import Options
from sparsemed.lazy import lazy_property
from sparsemed.storage.identity import Identity
from sparsemed.storage.places import is_remote
from sparsemed.storage.stored import file_state


class DatasetInput(ArrayInput):
    """A dataset of an HDF5 file: an array with an identity.

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

    def __init__(self, given: str | PathLike[str], options: Options) -> None:
        self._choice = options.choice
        self._choice.only(str(given), "dataset")
        self._place = Path(given).absolute()  # the working folder may change
        self._state = file_state(self._place)
        self._file = ExitStack()
        opened = open_dataset(self._place, str(self._choice.dataset), options.basins)
        dataset = self._file.enter_context(opened)
        self.label = f"{given}: {self._choice.dataset}"
        super().__init__(dataset, options._replace(choice=ANY))

    @staticmethod
    def takes(given: Any, choice: Choice) -> bool:
        """Whether this is the name of a file that is no stack, and a dataset is chosen."""
        is_name = isinstance(given, (str, PathLike)) and not is_remote(given)
        return is_name and choice.dataset is not None and stack_kind(given) is None

    @lazy_property
    def identity(self) -> Identity:
        """The file that the frames are from."""
        return Identity(
            path=self._place,
            given=self._place,
            kind="stack",
            count=self.frames.shape[0],
            choice=self._choice,
            states=((str(self._place), self._state),),
        )

    def require_same(self, identity: Identity) -> None:
        """Check that this is the file from which frames were read before, unchanged."""
        if ((str(self._place), self._state),) != identity.states:
            raise ValueError(
                f"{identity.path}: was replaced or changed since its frames were read; put that "
                "file back, or hand over its frames"
            )

    def reopened(self) -> Self:
        """Return this dataset, open again."""
        return type(self)(self._place, self.options._replace(choice=self._choice))

    def close(self) -> None:
        """Close the file, and check that it has not changed."""
        self._file.close()
