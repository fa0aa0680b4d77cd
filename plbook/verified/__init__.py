"""Numbers that are true in spite of rounding: chapter 12.

For matrices: bounds of eigenvalues, singular values and norms. For functions: enclosures of what a torch function is
exactly. For systems: both together.
"""

from plbook.verified.arithmetic import Enclosure, NotEnclosed
from plbook.verified.enclosures import enclose
from plbook.verified.kernel import KernelBounds, kernel_bounds, kernel_enclosure
from plbook.verified.matrices import (
    frobenius_norm_bound,
    smallest_eigenvalue_bound,
    smallest_singular_value_bound,
    spectral_norm_bound,
)

__all__ = [
    "Enclosure",
    "KernelBounds",
    "NotEnclosed",
    "enclose",
    "frobenius_norm_bound",
    "kernel_bounds",
    "kernel_enclosure",
    "smallest_eigenvalue_bound",
    "smallest_singular_value_bound",
    "spectral_norm_bound",
]
