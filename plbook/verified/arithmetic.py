"""Enclosures of exact results, and their arithmetic: running error analysis, entry by entry (chapter 12)."""

from dataclasses import dataclass
from math import frexp, prod

import torch
from torch import Tensor

from plbook.verified.rounding import SLACK, TINY, UNIT, gamma


class NotEnclosed(ValueError):
    """Of a function that cannot be enclosed; the text says which operation and why."""


@dataclass(frozen=True, eq=False)
class Enclosure:
    """A float64 tensor and a bound of its error: |exact - value| <= error, entry by entry.

    In the middle of a computation `error` is None where the value is exact.
    """

    value: Tensor
    error: Tensor | None = None

    @property
    def magnitude(self):
        """An upper bound of |exact|, entry by entry."""
        size = self.value.abs()
        return size if self.error is None else (size + self.error) * (1 + 4 * UNIT)

    def __add__(self, other):
        return add(self, other)

    def __sub__(self, other):
        return add(self, negative(enclosed(other)))

    def __rsub__(self, other):
        return add(negative(self), other)

    def __mul__(self, other):
        return multiply(self, other)

    def __truediv__(self, other):
        return divide(self, other)

    def __neg__(self):
        return negative(self)

    __radd__, __rmul__ = __add__, __mul__


def is_short(number):
    """Whether a number is a multiple of 2^-30 below 2^23: such constants are meant as they are."""
    return abs(number) < 2**23 and float(number * 2**30).is_integer()


def enclosed(number):
    """An Enclosure of an Enclosure, a tensor or a Python number.

    A constant such as 0.1 or 2 / sqrt(pi) may stand for a number that float64 rounds, as in torch's formulas for
    derivatives. The enclosure contains both: all numbers within 4 units in the last place.
    """
    if isinstance(number, Enclosure):
        return number
    if isinstance(number, Tensor):
        if not number.is_floating_point() and number.numel() and number.double().abs().max() >= 2**53:
            raise NotEnclosed("it takes integers that float64 rounds.")
        return Enclosure(number.double())
    value = torch.tensor(float(number), dtype=torch.float64)
    return Enclosure(value, None if is_short(number) else 8 * UNIT * value.abs())


def power_of_two(x):
    """Whether x is one exact number +-2^k, |k| < 1000, so that products with it are not rounded."""
    if x.error is not None or x.value.ndim:
        return False
    fraction, exponent = frexp(x.value.item())
    return abs(fraction) == 0.5 and abs(exponent) < 1000


def negative(x):
    return Enclosure(-x.value, x.error)


def absolute(x):
    return Enclosure(x.value.abs(), x.error)


def errors(x):
    """The error of x as a tensor of its shape."""
    return torch.zeros_like(x.value) if x.error is None else x.error


def widened(x, more):
    """x with a larger error."""
    return Enclosure(x.value, (errors(x) + more) * SLACK)


def add(a, b):
    a, b = enclosed(a), enclosed(b)
    value = a.value + b.value
    error = value.abs().mul_(UNIT).add_(TINY)
    for part in (a.error, b.error):
        if part is not None:
            error += part
    return Enclosure(value, error.mul_(SLACK))


def multiply(a, b):
    """|ab - AB| <= |a| e_b + e_a (|b| + e_b), and rounding."""
    a, b = enclosed(a), enclosed(b)
    if power_of_two(a):
        a, b = b, a
    value = a.value * b.value
    exact = power_of_two(b)
    if exact and a.error is None and abs(b.value) >= 1:
        return Enclosure(value)
    error = value.abs().mul_(0 if exact else UNIT).add_(TINY)
    if a.error is not None:
        error += a.error * b.magnitude
    if b.error is not None:
        error += a.value.abs() * b.error
    return Enclosure(value, error.mul_(SLACK))


def divide(a, b):
    """|a/b - A/B| <= (e_a + |a/b| e_b) / (|b| - e_b), and rounding."""
    a, b = enclosed(a), enclosed(b)
    if power_of_two(b):
        return multiply(a, Enclosure(1 / b.value))
    value = a.value / b.value
    size = value.abs()
    error, least = size.mul(UNIT).add_(TINY), b.value.abs()
    if b.error is not None:
        least = positive(least - b.error)
        error += (size * SLACK + TINY) * (b.error / least)
    if a.error is not None:
        error += a.error / least
    return Enclosure(value, error.mul_(SLACK))


def positive(numbers):
    """The numbers, if they are positive."""
    if not (numbers > 0).all():
        raise NotEnclosed("the argument, within its error, reaches a singularity.")
    return numbers


def product(multiplied, a, b, terms):
    """A bilinear map whose entries are sums of at most `terms` products, such as a matrix product or a convolution.

    |AB - ab| <= e_a (|b| + e_b) + |a| e_b, and gamma(terms) |a| |b| for rounding.
    """
    value = multiplied(a.value, b.value)
    rounding, size = gamma(terms + 1), b.value.abs()
    # Not |b| gamma + e_b, which may underflow before it is multiplied by something large.
    error = multiplied(a.value.abs(), size if b.error is None else b.error.div(rounding).add_(size)).mul_(rounding)
    if a.error is not None:
        error += multiplied(a.error, b.magnitude)
    return Enclosure(value, error.add_(2 * terms * TINY).mul_(SLACK))


def matmul(a, b):
    a, b = enclosed(a), enclosed(b)
    return product(torch.matmul, a, b, a.value.shape[-1])


def positive_linear(map_, x, terms):
    """A linear map with weights >= 0 whose entries are sums of at most `terms` terms, such as a mean."""
    error = map_(x.value.abs()).mul_(gamma(terms))
    if x.error is not None:
        error += map_(x.error)
    return Enclosure(map_(x.value), error.add_(2 * terms * TINY).mul_(SLACK))


def total(x, dims=None, keepdim=False):
    """The sum over some dimensions, all of them for None."""
    dims = list(range(x.value.ndim)) if dims is None else dims
    terms = prod(x.value.shape[dim] for dim in dims)
    if not dims:
        return x
    return positive_linear(lambda part: part.sum(dims, keepdim), x, terms)


def mean(x, dims=None, keepdim=False):
    summed = total(x, dims, keepdim)
    return summed / (x.value.numel() // max(summed.value.numel(), 1))


def each(map_, *parts):
    """A map that only moves entries, applied to values and to errors."""
    value = map_(*(part.value for part in parts))
    if all(part.error is None for part in parts):
        return Enclosure(value)
    return Enclosure(value, map_(*(errors(part) for part in parts)))
