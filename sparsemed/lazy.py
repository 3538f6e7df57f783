"""Values that are computed at first access."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

Value = TypeVar("Value")


class lazy_property(Generic[Value]):
    """A property that is computed once for each object.

    Like `functools.cached_property`, but without its lock: until Python 3.11, that holds one lock
    for all objects of a class, on which a child process forked meanwhile would wait forever.

    Parameters
    ----------
    compute : callable
        The method.

    Examples
    --------
    >>> class Answer:
    ...     @lazy_property
    ...     def value(self):
    ...         print("computed")
    ...         return 42
    >>> answer = Answer()
    >>> answer.value, answer.value
    computed
    (42, 42)
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> Self | Value:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
