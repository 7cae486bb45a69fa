"""Validation at the door: every public function refuses bad input with one sentence.

The sentence is always ``where: parameter must be <legal set>, got <value>``. Kernels behind the door
assume valid arrays. Nothing here repairs a value: a wrong dtype, shape or range is an error, because
a scheduler that silently clips a NaN trains on nonsense for days.
"""

from __future__ import annotations

import math
import numbers
from typing import Any, NoReturn, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Int = TypeVar("Int", bound=np.integer[Any])
Real = TypeVar("Real", bound=np.floating[Any])


class InWords(str):
    """What is wrong with a value, in the place of the value: shown without quotation marks."""

    __slots__ = ()
    __repr__ = str.__str__


def fail(where: str, parameter: str, legal: str, value: object) -> NoReturn:
    """Raise the one error sentence of this package."""
    shown = repr(value.item() if isinstance(value, np.generic) else value)
    if len(shown) > 120:
        shown = shown[:117] + "..."
    raise ValueError(f"{where}: {parameter} must be {legal}, got {shown}")


def interval(low: float | None, high: float | None, *, open_low: bool, open_high: bool) -> str:
    """``[0, 1]``, ``(0, inf)``, ... for an error sentence."""
    left = "(" if open_low or low is None else "["
    right = ")" if open_high or high is None else "]"
    return f"{left}{'-inf' if low is None else low}, {'inf' if high is None else high}{right}"


def as_int(
    where: str, parameter: str, value: Any, low: int | None = None, high: int | None = None
) -> int:
    """One integer in ``[low, high]``; booleans and floats are refused."""
    legal = f"an int in {interval(low, high, open_low=False, open_high=False)}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        fail(where, parameter, legal, value)
    number = int(value)
    if (low is not None and number < low) or (high is not None and number > high):
        fail(where, parameter, legal, value)
    return number


def as_float(
    where: str,
    parameter: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """One finite real number in the interval; booleans and NaN are refused."""
    legal = f"a float in {interval(low, high, open_low=open_low, open_high=open_high)}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        fail(where, parameter, legal, value)
    try:
        number = float(value)
    except OverflowError:
        fail(where, parameter, legal, value)
    below = low is not None and (number <= low if open_low else number < low)
    above = high is not None and (number >= high if open_high else number > high)
    if not math.isfinite(number) or below or above:
        fail(where, parameter, legal, value)
    return number


def as_bool(where: str, parameter: str, value: Any) -> bool:
    """A boolean, and nothing that merely looks like one."""
    if not isinstance(value, bool | np.bool_):
        fail(where, parameter, "True or False", value)
    return bool(value)


def as_choice(where: str, parameter: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of a fixed set of strings."""
    if not isinstance(value, str) or value not in choices:
        fail(where, parameter, f"one of {list(choices)}", value)
    return value


@overload
def as_int_array(
    where: str,
    parameter: str,
    value: ArrayLike,
    *,
    length: int | None = ...,
    low: int | None = ...,
    high: int | None = ...,
) -> IntArray: ...


@overload
def as_int_array(
    where: str,
    parameter: str,
    value: ArrayLike,
    *,
    length: int | None = ...,
    low: int | None = ...,
    high: int | None = ...,
    dtype: type[Int],
) -> NDArray[Int]: ...


def as_int_array(
    where: str,
    parameter: str,
    value: ArrayLike,
    *,
    length: int | None = None,
    low: int | None = None,
    high: int | None = None,
    dtype: type[np.integer[Any]] = np.int64,
) -> NDArray[Any]:
    """A one-dimensional copy; floats, bools, objects and what ``dtype`` cannot hold are refused."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        fail(where, parameter, "a one-dimensional integer array", value)
    if array.size == 0 and array.ndim == 1:
        array = array.astype(dtype)  # an empty list has dtype float64, and means no ids
    if array.dtype.kind not in "iu" or array.ndim != 1:
        fail(
            where,
            parameter,
            "a one-dimensional integer array",
            InWords(f"dtype {array.dtype}, shape {array.shape}"),
        )
    if length is not None and array.size != length:
        fail(where, parameter, f"of shape ({length},)", InWords(f"shape {array.shape}"))
    held = np.iinfo(dtype)
    if array.size and not np.can_cast(array.dtype, dtype):
        for extreme in (int(array.min()), int(array.max())):
            if not held.min <= extreme <= held.max:
                fail(where, parameter, f"representable as {held.dtype}", extreme)
    _check_range(where, parameter, array, low, high, open_low=False)
    return array.astype(dtype)  # astype copies: the caller's array is never aliased


def is_distinct(array: IntArray) -> bool:
    """Whether no id comes twice; cheapest where they ascend, as they do in plans."""
    if (array[1:] > array[:-1]).all():  # compared, because differences of unsigned ids wrap
        return True
    ordered = np.sort(array)
    return bool((ordered[1:] != ordered[:-1]).all())


def frozen(array: NDArray[Any]) -> None:
    """Make an array of a record read-only: a record is a value."""
    array.setflags(write=False)


def as_array(where: str, parameter: str, value: ArrayLike, legal: str) -> NDArray[Any]:
    """An array of any shape; nested lists of unequal lengths are refused."""
    try:
        return np.asarray(value)
    except ValueError:
        fail(where, parameter, legal, value)


def broadcast(where: str, **arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Arrays of one shape; the first that does not fit to those before it is named."""
    shape: tuple[int, ...] = ()
    for parameter, array in arrays.items():
        try:
            shape = np.broadcast_shapes(shape, array.shape)
        except ValueError:
            legal = f"of a shape that broadcasts with {shape}, that of the arguments before it"
            fail(where, parameter, legal, InWords(f"shape {array.shape}"))
    return tuple(np.broadcast_to(array, shape) for array in arrays.values())


@overload
def as_float_array(
    where: str,
    parameter: str,
    value: ArrayLike,
    *,
    length: int | None = ...,
    low: float | None = ...,
    high: float | None = ...,
    open_low: bool = ...,
    allow_nan: bool = ...,
) -> FloatArray: ...


@overload
def as_float_array(
    where: str,
    parameter: str,
    value: ArrayLike,
    *,
    length: int | None = ...,
    low: float | None = ...,
    high: float | None = ...,
    open_low: bool = ...,
    allow_nan: bool = ...,
    dtype: type[Real],
) -> NDArray[Real]: ...


def as_float_array(
    where: str,
    parameter: str,
    value: ArrayLike,
    *,
    length: int | None = None,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    allow_nan: bool = False,
    dtype: type[np.floating[Any]] = np.float64,
) -> NDArray[Any]:
    """A one-dimensional finite copy (NaN only where it means "not measured")."""
    given = as_array(where, parameter, value, "a one-dimensional array of real numbers")
    if given.dtype.kind not in "iuf":
        fail(where, parameter, "an array of real numbers", InWords(f"dtype {given.dtype}"))
    with np.errstate(over="ignore"):  # what ``dtype`` cannot hold is not finite
        array = given.astype(dtype)  # astype copies: the caller's array is never aliased
    if array.ndim != 1:
        fail(where, parameter, "one-dimensional", InWords(f"shape {array.shape}"))
    if length is not None and array.size != length:
        fail(where, parameter, f"of shape ({length},)", InWords(f"shape {array.shape}"))
    # a look at the extremes is enough, and makes no array
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        is_bad = np.isinf(array) if allow_nan else ~np.isfinite(array)
        if is_bad.any():
            index = int(np.flatnonzero(is_bad)[0])
            fail(where, parameter, "finite", InWords(f"{array[index]} at index {index}"))
    _check_range(where, parameter, array, low, high, open_low=open_low)
    return array


def _check_range(
    where: str,
    parameter: str,
    array: NDArray[Any],
    low: float | None,
    high: float | None,
    *,
    open_low: bool,
) -> None:
    if array.size == 0:
        return
    least, most = array.min().item(), array.max().item()  # NaN where there is one: a closer look
    is_above = low is None or (least > low if open_low else least >= low)
    if is_above and (high is None or most <= high):
        return
    is_bad = np.zeros(array.shape, dtype=bool)
    if low is not None:
        is_bad |= (array <= low) if open_low else (array < low)
    if high is not None:
        is_bad |= array > high
    if is_bad.any():
        index = int(np.flatnonzero(is_bad)[0])
        legal = f"in {interval(low, high, open_low=open_low, open_high=False)}"
        fail(where, parameter, legal, InWords(f"{array[index].item()} at index {index}"))
