"""The pipeline identifier (PPID): method and parameters of a background as text.

``sparsemed:k=200^s=1^t=0^f=0.8^o=1`` names the method and each parameter, abbreviated to its first
letter. The strings are equal to those of dcnum, so that results of both can be traced.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from sparsemed.keywords import MEANT
from sparsemed.parameters import Parameters

CODE = "sparsemed"
"""The name of the method within a PPID."""

GENERATION = "13"
"""Pipeline generation of dcnum; it rises when results are no longer comparable."""


def to_ppid(values: Parameters | Mapping[str, Any]) -> str:
    """Return the PPID of the given parameters.

    Parameters
    ----------
    values : Parameters, or mapping of str to value
        Names and values of `sparsemed.parameters.Parameters`; missing ones have
        their defaults.

    Raises
    ------
    ValueError
        If a name is unknown.

    Examples
    --------
    >>> to_ppid({"kernel_size": 100, "split_time": 0.5})
    'sparsemed:k=100^s=0.5^t=0^f=0.8^o=1'
    """
    values = asdict(values) if isinstance(values, Parameters) else values
    defaults = asdict(Parameters())
    if unknown := sorted(set(values) - set(defaults)):
        raise ValueError(f"unknown parameters {unknown}; {_known(unknown[0])}")
    items = (defaults | dict(values)).items()
    return f"{CODE}:" + "^".join(f"{name[0]}={_as_text(value)}" for name, value in items)


def from_ppid(ppid: str) -> dict[str, Any]:
    """Return the parameters in a PPID.

    Parameters
    ----------
    ppid : str
        A PPID of this method. Any prefix of a name stands for that name; missing
        parameters have their defaults.

    Raises
    ------
    ValueError
        If the PPID belongs to another method or cannot be parsed.

    Examples
    --------
    >>> from_ppid("sparsemed:k=100^o=0")["kernel_size"]
    100
    """
    code, _, listed = ppid.partition(":")
    if code != CODE or not listed:
        raise ValueError(f"{ppid!r} is not a PPID of the method {CODE!r} ('{CODE}:k=200^s=1^…')")
    values = asdict(Parameters())
    unnamed = list(values)
    for item in listed.split("^"):
        prefix, equals, text = item.partition("=")
        names = [name for name in unnamed if prefix and name.startswith(prefix)]
        if not names or not equals:
            raise ValueError(
                f"PPID {ppid!r}: {item!r} is none of the parameters {sorted(values)}, or is there "
                "twice"
            )
        values[names[0]] = parse_value(names[0], text)
        unnamed.remove(names[0])
    return values


def parse_value(name: str, text: str) -> int | float | bool:
    """Return the value of a parameter from text, as in PPIDs and on command lines.

    Raises
    ------
    ValueError
        If the text cannot be read as a value of that parameter.

    Examples
    --------
    >>> parse_value("kernel_size", "100"), parse_value("offset_correction", "false")
    (100, False)
    """
    kinds = {field.name: field.type for field in fields(Parameters)}
    if name not in kinds:
        raise ValueError(f"unknown parameter {name!r}; {_known(name)}")
    kind: Any = kinds[name]
    try:
        if kind is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.strip().lower()
            ]
        value: int | float = kind(text)
    except (KeyError, ValueError):
        hint = _with_point(text) if kind is float else ""
        raise ValueError(f"{name}: cannot read {text!r} as {_KINDS[kind]}{hint}") from None
    return value


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def closest_parameter(name: str, likeness: float = 0.6) -> str | None:
    """Return the parameter with the most similar name (likeness 0 to 1), or None.

    Examples
    --------
    >>> closest_parameter("--kernel-sie"), closest_parameter("step")
    ('kernel_size', 'split_time')
    """
    known = [field.name for field in fields(Parameters)]
    plain = name.lower().lstrip("-").replace("-", "_")
    if MEANT.get(plain) in known:
        return MEANT[plain]
    return next(iter(difflib.get_close_matches(plain, known, 1, likeness)), None)


def _known(name: str) -> str:
    """Return the end of an error about an unknown parameter."""
    known = sorted(field.name for field in fields(Parameters))
    if closest := closest_parameter(name):
        return f"did you mean {closest!r}? Parameters are {known}"
    return f"parameters are {known}"


def _with_point(text: str) -> str:
    """Return the end of an error about a number with a decimal comma."""
    with_point = text.strip().replace(",", ".")
    try:
        float(with_point)
    except ValueError:
        return ""
    return f"; the decimal mark is a point: {with_point}"


def _as_text(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (float, np.floating)) and value == int(value):
        return str(int(value))
    return f"{value}"
