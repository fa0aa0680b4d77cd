"""Numbers that are true in spite of rounding: chapter 12."""

from plbook.verified.matrices import smallest_eigenvalue_bound, smallest_singular_value_bound, spectral_norm_bound

__all__ = ["smallest_eigenvalue_bound", "smallest_singular_value_bound", "spectral_norm_bound"]
