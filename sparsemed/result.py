"""The public result: a background that can be judged, shown and saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def presented(
    found: Background, warned: list[str], findings: tuple[Finding, ...] = ()
) -> "SparseBackground":
    """Return a background for users, with its warnings and stored findings."""
    return SparseBackground(**vars(found) | {"warnings": tuple(warned), "findings": findings})


def stored_findings(measurement: Measurement) -> tuple[Finding, ...]:
    """Return the stored findings on the background in a file; none if it was not judged."""
    return as_findings(read_verdict(measurement))


def as_findings(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Return stored rows as findings; none if a verdict among them is unknown."""
    findings = tuple(Finding(*row) for row in rows)
    known = {GOOD, LOOK_HERE, CANNOT_TELL}
    return findings if all(finding.verdict in known for finding in findings) else ()


@dataclass(frozen=True, eq=False, repr=False)
class SparseBackground(Background):  # noqa: D101 (it is that of its base)
    __doc__ = f"""{(Background.__doc__ or "").rstrip()}
    findings : tuple of Finding
        The stored findings, if it was loaded and had been judged; see `quality`.
    """

    findings: tuple[Finding, ...] = ()

    def quality(
        self, frames: Any = None, try_cures: bool = True, num_cpus: int | None = None
    ) -> tuple[Finding, ...]:
        """Return the quality of this background: numbers, verdicts and advice.

        Parameters
        ----------
        frames : array-like, shape (N, H, W), or str or path, optional
            The frames of the background; a few are compared with it. Default: those of the
            measurement `source`, or of the `stack`. Without frames, numbers that need them
            are left out. Frames of another measurement are refused, and copies and exports
            taken, as some frames are compared.
        try_cures : bool
            If something is wrong, whether to try which settings would help, on a part of the
            frames, in a few seconds.
        num_cpus : int, optional
            Largest number of threads for that. Default: all available cores.

        Returns
        -------
        tuple of Finding
            Each has a ``title``, the number in words (``text``), a ``verdict`` (``"good"``,
            ``"look here"`` or ``"cannot tell"``) and, unless it is good, an ``advice``: what
            to change, or that no parameter helps. ``str(finding)`` has all of these, and
            `sparsemed.quality.overall` joins their verdicts into one.

        Raises
        ------
        ValueError
            If the frames do not fit the background, or are others, or their file was replaced.

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
        return examine(self, frames, try_cures, num_cpus)[1]

    def plot(self, frames: Any = None) -> "Figure":
        """Draw a page of figures: verdicts, series, cleansing, offsets, a frame, and noise.

        Needs matplotlib; the error says how to install it.

        Parameters
        ----------
        frames : array-like, shape (N, H, W), or str or path, optional
            See `quality`.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``savefig`` writes it to a file.

        Raises
        ------
        ValueError
            If the frames do not fit the background, or are others, or their file was replaced.
        ImportError
            If matplotlib is missing.
        """
        try:
            from sparsemed.plotting import plot
        except ModuleNotFoundError as error:
            raise ImportError(f"{error}: {how_to_install('matplotlib')}") from error
        return plot(self, take_sample(self, frames))

    def report(
        self, path: str | PathLike[str], frames: Any = None, num_cpus: int | None = None
    ) -> tuple[Finding, ...]:
        """Write an HTML page that shows whether this background is good.

        The page is a single file that needs no network. Needs matplotlib.

        Parameters
        ----------
        path : str or path
            The page. An earlier page is replaced, but no other file.
        frames : array-like, shape (N, H, W), or str or path, optional
            See `quality`.
        num_cpus : int, optional
            See `quality`.

        Returns
        -------
        tuple of Finding
            The findings on the page; see `quality`.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        FileExistsError
            If there is a file of that name that is no page of sparsemed.
        OSError
            If the page cannot be written.
        ValueError
            If the frames do not fit the background, or are others, or their file was replaced.
        """
        return write_report(self, path, frames, num_cpus)

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
        """Write the background to a measurement file, in the format of dcnum.

        The file has ``image_bg`` and, with offsets, ``bg_off``. A new file also
        refers to the measurement of the frames, by an absolute path and by a path
        relative to its own folder. An existing file keeps all but an earlier
        background, and its reference is renewed; it may be the measurement itself.
        A file that has only an earlier result is written anew.

        Parameters
        ----------
        path : str or path
            The file. It changes wholly or not at all.
        compress : bool
            Whether to compress the images (Zstandard).
        in_place : bool
            Whether the file may be a measurement, with images of its own.
        findings : sequence of Finding, optional
            The result of `quality`, to be stored as log and table ``sparsemed-verdict``, which
            dclab shows. Default: the attribute `findings`. The background is not judged again,
            as that would read frames.

        Raises
        ------
        OSError
            If the file cannot be written, or the measurement cannot be read any more.
        ValueError
            If an existing file has another number of frames, or belongs to another
            measurement; if the measurement was replaced since its frames were read; if the
            name has no ending, or that of another kind of file, such as ``.npy``; or if the file
            has images of its own, and `in_place` is False.
        """
        require_result(Path(path), in_place=in_place)
        kept = tuple(self.findings if findings is None else findings)
        verdict = (_lines(kept), kept) if kept else None
        write_background(path, self, compress=compress, verdict=verdict)


def _lines(findings: Sequence[Finding]) -> list[str]:
    """Return the log of a verdict: the verdict, then all findings, good ones last."""
    ordered = sorted(findings, key=lambda finding: finding.is_good)
    said = [line for finding in ordered for line in str(finding).splitlines()]
    return [f"verdict: {overall(findings)}", *said]
