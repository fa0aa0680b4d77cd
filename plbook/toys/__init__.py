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
from plbook.toys.descent import plateau
from plbook.toys.ensembles import ensemble
from plbook.toys.kinked import kinked
from plbook.toys.nonconvexity import bowl, straight, valley, wells
from plbook.toys.relaxation import bumps, bumpy_valley, egg_crate, folds, ramp

__all__ = [
    "bowl",
    "bumps",
    "bumpy_valley",
    "chain",
    "copies",
    "cubic",
    "egg_crate",
    "ensemble",
    "folds",
    "fourier_bottleneck",
    "kinked",
    "linear",
    "plateau",
    "product",
    "quadratics",
    "ramp",
    "repeated",
    "sharpest",
    "sines",
    "square",
    "straight",
    "valley",
    "wells",
]
