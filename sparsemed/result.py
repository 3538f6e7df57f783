"""What people get: a background that can be judged, shown and saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsemed.hdf5.file_access import Policy
from sparsemed.install_hint import how_to_install
from sparsemed.method.result import Background
from sparsemed.quality.finding import CANNOT_TELL, GOOD, LOOK_HERE, Finding, overall
from sparsemed.quality.sample import take_sample
from sparsemed.quality.trying import examine
from sparsemed.report import write_report
from sparsemed.report.notebook import html_table
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.output import require_result, write_background
from sparsemed.rtdc.verdicts import Row, read_verdict
from sparsemed.storage.identity import Identity

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def presented(
    found: Background,
    warned: list[str],
    identity: Identity | None = None,
    basins: Policy = "any",
    findings: tuple[Finding, ...] = (),
) -> "SparseBackground":
    """Return a background with its faces, what was warned of, and where its frames are from."""
    more = {"warnings": tuple(warned), "identity": identity, "basins": basins}
    return SparseBackground(**vars(found) | more | {"findings": findings})


def stored_findings(measurement: Measurement) -> tuple[Finding, ...]:
    """Return what a file says of the background in it; nothing if that was not judged."""
    return as_findings(read_verdict(measurement))


def as_findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Return what a file said as findings; nothing if a verdict among them is not known."""
    findings = tuple(Finding(*row) for row in rows)
    known = {GOOD, LOOK_HERE, CANNOT_TELL}
    return findings if all(finding.verdict in known for finding in findings) else ()


@dataclass(frozen=True, eq=False, repr=False)
class SparseBackground(Background):  # noqa: D101 (it is that of its base)
    __doc__ = f"""{(Background.__doc__ or "").rstrip()}
    findings : tuple of Finding
        What its file said of it, if it was loaded and had been judged; see `quality`.
    """

    findings: tuple[Finding, ...] = ()

    def quality(self, frames: Any = None, try_cures: bool = True) -> tuple[Finding, ...]:
        """Say what is good about this background, and where to look.

        Parameters
        ----------
        frames : array-like, shape (N, H, W), or str or path, optional
            The frames that the background was computed from; a few are compared with it.
            Default: those of the measurement `source`, or of the `stack`. Without frames,
            what needs them is left out.
        try_cures : bool
            Whether to try, where something is wrong, which settings would help: on a part of the
            frames, in a few seconds.

        Returns
        -------
        tuple of Finding
            Each has a ``title``, the number in words (``text``), a ``verdict`` (``"good"``,
            ``"look here"`` or ``"cannot tell"``) and, where it is not good, an ``advice``: what
            to change, or that no parameter helps. ``str(finding)`` says it all, and
            `sparsemed.quality.overall` makes one verdict of them.

        Raises
        ------
        ValueError
            If the frames do not fit the background, or the file that they were read from was
            replaced since.

        Examples
        --------
        >>> import numpy as np
        >>> import sparsemed
        >>> frames = np.full((400, 40, 60), 90, dtype=np.uint8)
        >>> frames[::3] += 8  # the lamp flickers
        >>> background = sparsemed.compute_background(
        ...     frames, time=np.arange(400) / 100, kernel_size=100, offset_correction=False)
        >>> print(background.quality(frames)[2])
        look here: Flicker of the light: 33 of 96 frames (34 %)
          → The light flickers and nothing corrects it: offset_correction=True.
        """
        return examine(self, frames, try_cures)[1]

    def plot(self, frames: Any = None) -> "Figure":
        """Draw a page of pictures: verdicts, series, cleansing, offsets, a frame, and noise.

        Needs matplotlib; the error says how to install it.

        Parameters
        ----------
        frames : array-like, shape (N, H, W), or str or path, optional
            As for `quality`.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it as the last line of a cell; ``savefig`` writes it to a file.

        Raises
        ------
        ValueError
            If the frames do not fit the background, or the file that they were read from was
            replaced since.
        ImportError
            If matplotlib is missing.
        """
        try:
            from sparsemed.plotting import plot
        except ModuleNotFoundError as error:
            raise ImportError(f"{error}: {how_to_install('matplotlib')}") from error
        return plot(self, take_sample(self, frames))

    def report(self, path: str | PathLike[str], frames: Any = None) -> tuple[Finding, ...]:
        """Write an HTML page that shows whether this background is good.

        It is one file that loads nothing from elsewhere. Needs matplotlib.

        Parameters
        ----------
        path : str or path
            The page. An earlier page is replaced, but no other file.
        frames : array-like, shape (N, H, W), or str or path, optional
            As for `quality`.

        Returns
        -------
        tuple of Finding
            What the page says; see `quality`.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        FileExistsError
            If there is a file of that name that is no HTML page.
        OSError
            If the page cannot be written.
        ValueError
            If the frames do not fit the background, or the file that they were read from was
            replaced since.
        """
        return write_report(self, path, frames)

    def _repr_html_(self) -> str:
        return html_table(self)

    def save(
        self,
        path: str | PathLike[str],
        *,
        compress: bool = True,
        in_place: bool = False,
        findings: Sequence[Finding] | None = None,
    ) -> None:
        """Write the background to a measurement file, as dcnum does.

        The file holds ``image_bg`` and, with offsets, ``bg_off``. A new file
        also refers to the measurement that the frames are from, by an absolute
        path and by one from its own folder. An existing file, which may be that
        measurement itself, keeps all it has but for an earlier background, and its
        reference is renewed. One that holds nothing but an earlier result is
        written anew.

        Parameters
        ----------
        path : str or path
            The file. It changes wholly or not at all.
        compress : bool
            Whether to compress the images (Zstandard).
        in_place : bool
            Whether the file may be a measurement, one that holds images of its own.
        findings : sequence of Finding, optional
            What `quality` has returned. It is kept as the log and the table ``sparsemed-verdict``,
            which dclab shows. Default: the attribute `findings`. Nothing is judged for it, as that
            would read frames again.

        Raises
        ------
        OSError
            If the file cannot be written, or the measurement cannot be read any more.
        ValueError
            If an existing file holds another number of frames, or belongs to another
            measurement; if the measurement was replaced since its frames were read; or if the
            name has no ending, or that of another kind of file, such as ``.npy``; or if the file
            holds images of its own, and `in_place` is False.
        """
        require_result(Path(path), in_place=in_place)
        kept = tuple(self.findings if findings is None else findings)
        verdict = (_lines(kept), kept) if kept else None
        write_background(path, self, compress=compress, verdict=verdict)


def _lines(findings: Sequence[Finding]) -> list[str]:
    """Return the log of a verdict: the verdict, and each finding, what is not good first."""
    ordered = sorted(findings, key=lambda finding: finding.is_good)
    said = [line for finding in ordered for line in str(finding).splitlines()]
    return [f"verdict: {overall(findings)}", *said]
