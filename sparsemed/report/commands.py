"""The commands on a page. They work in the folder of the page."""

import os
import shlex
from dataclasses import fields
from pathlib import Path

from sparsemed.parameters import Parameters
from sparsemed.storage.places import AnyPath, RemotePath


def compute_command(
    parameters: Parameters, measurement: AnyPath, result: AnyPath | None, at: Path
) -> str:
    """Return the command that writes a background to a file.

    Parameters
    ----------
    parameters : Parameters
    measurement : Path or RemotePath
        The file with the frames.
    result : Path, RemotePath or None
        The file with the background, if it is another one.
    at : Path
        The folder in which the command works.
    """
    words = ["sparsemed compute", _address(measurement, at)]
    folder = measurement.parent if isinstance(measurement, Path) else at  # of the default output
    if result is not None and result != folder / f"{measurement.stem}_bg.rtdc":
        words += ["-o", _address(result, at)]
    return " ".join([*words, *_settings(parameters)])


def report_command(source: AnyPath, at: Path) -> str:
    """Return the command that makes another page, with another parameter."""
    return f"sparsemed report {_address(source, at)} -k kernel_size=… -o try.html"


def in_words(parameters: Parameters) -> str:
    """Return the parameters that differ from their defaults.

    Examples
    --------
    >>> from sparsemed.parameters import Parameters
    >>> in_words(Parameters(kernel_size=500, split_time=0.5)), in_words(Parameters())
    ('kernel_size=500, split_time=0.5', 'defaults')
    """
    return ", ".join(_changed(parameters)) or "defaults"


def _settings(parameters: Parameters) -> list[str]:
    return [f"-k {each}" for each in _changed(parameters)]


def _changed(parameters: Parameters) -> list[str]:
    values = [(each, getattr(parameters, each.name)) for each in fields(Parameters)]
    return [f"{each.name}={value}" for each, value in values if value != each.default]


def _address(path: AnyPath, at: Path) -> str:
    """Return a path relative to a folder, or an address, quoted for a shell."""
    if isinstance(path, RemotePath):
        return shlex.quote(str(path))
    try:
        relative = os.path.relpath(path, at)
    except ValueError:  # another drive of Windows
        relative = os.path.abspath(path)
    return shlex.quote(f".{os.sep}{relative}" if relative.startswith("-") else relative)
