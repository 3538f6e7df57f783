"""Values that are computed when they are first asked for."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

Value = TypeVar("Value")


class lazy_property(Generic[Value]):
    """A property that is computed once an object.

    As `functools.cached_property`, which until Python 3.11 holds a lock for all objects of a class
    while it computes one: a child that is forked meanwhile would wait for it forever.

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
