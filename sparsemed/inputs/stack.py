"""Frames in a stack of images: an array with an identity."""

from contextlib import AbstractContextManager, ExitStack
from os import PathLike
from pathlib import Path
from typing import Any, Self

from sparsemed.frames.choice import ANY, Choice
from sparsemed.frames.parts import stack_part
from sparsemed.frames.source import FrameOpener
from sparsemed.frames.stacks import open_stack, stack_kind, states_of_stack
from sparsemed.inputs.array import ArrayInput
from sparsemed.inputs.given import Options
from sparsemed.lazy import lazy_property
from sparsemed.storage.identity import Identity
from sparsemed.storage.places import is_remote


class StackInput(ArrayInput):
    """A stack of images in a file or folder.

    Parameters
    ----------
    given : str or path
    options : Options

    Raises
    ------
    ImportError, ValueError, OSError
        See `sparsemed.frames.stacks.open_stack`.
    """

    def __init__(self, given: str | PathLike[str], options: Options) -> None:
        self.label = self._named(given, options.choice)
        self._given = Path(given)
        self._place = self._given.absolute()  # the working folder may change
        self._choice = options.choice
        self._states = states_of_stack(self._place, self._choice)
        with ExitStack() as files:
            opened = files.enter_context(self._open(options))
            super().__init__(opened, options._replace(choice=ANY))
            self._files = files.pop_all()

    def _named(self, given: str | PathLike[str], choice: Choice) -> str:  # noqa: ARG002
        """Return the label."""
        return str(given)

    def _open(self, options: Options) -> AbstractContextManager[Any]:
        """Return what provides the array until it is closed, and then checks the files."""
        return open_stack(self._given, options.num_cpus, options.choice)

    def _in_order(self, array: Any) -> Any:
        """Return the array: `open_stack` has chosen its axes."""
        return array

    @staticmethod
    def takes(given: Any, choice: Choice) -> bool:  # noqa: ARG004
        """Whether this is the name of a file or folder that is a stack."""
        is_path = isinstance(given, (str, PathLike)) and not is_remote(given)
        return is_path and stack_kind(given) is not None

    @lazy_property
    def identity(self) -> Identity:
        """The files that the frames are from."""
        return Identity(
            path=self._place,
            given=self._given,
            kind="stack",
            count=self.frames.shape[0],
            choice=self._choice,
            states=self._states,
        )

    def open_part(self, begin: int, end: int) -> FrameOpener:
        """Return an opener of some frames, by the path of the stack."""
        return stack_part(self._place, self._states, self._choice, begin, end)

    def require_same(self, identity: Identity) -> None:
        """Check that these are the files from which frames were read before, unchanged."""
        if self._states != identity.states:
            raise ValueError(
                f"{identity.given}: was replaced or changed since its frames were read; put it "
                "back, or hand over its frames"
            )

    def reopened(self) -> Self:
        """Return this stack, open again."""
        again = type(self)(self._place, self.options._replace(choice=self._choice))
        again.label, again._given = self.label, self._given
        return again

    def close(self) -> None:
        """Close the files, and check that they have not changed."""
        self._files.close()

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*error)
