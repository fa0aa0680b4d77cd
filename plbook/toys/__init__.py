"""Small systems with closed forms: the examples of the chapters and the known answers of the tests.

Each function returns a `System`; its docstring gives F, DF and what follows from them.
"""

from plbook.toys.bottleneck import fourier_bottleneck
from plbook.toys.elementary import (
    chain,
    copies,
    cubic,
    linear,
    product,
    quadratics,
    repeated,
    sharpest,
    sines,
    square,
)
from plbook.toys.kinked import kinked

__all__ = [
    "chain",
    "copies",
    "cubic",
    "fourier_bottleneck",
    "kinked",
    "linear",
    "product",
    "quadratics",
    "repeated",
    "sharpest",
    "sines",
    "square",
]
