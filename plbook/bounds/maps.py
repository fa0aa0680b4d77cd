"""The derivatives of one node's value by another's, over a whole ball: a centre and a radius for each sample.

A Map holds what is known of the matrices M(w), w in the ball: |M(w) - centre|_2 <= radius. The centre is a diagonal, a
full matrix, or 0 where a matrix would be too large; then the radius bounds |M(w)|_2 itself, as a product of norms. Any
centre would be right: rounding in it goes into the radius, too.
"""

from functools import cached_property

import torch

from plbook.verified.matrices import spectral_norm_bound

UNIT = torch.finfo(torch.float64).eps
# A centre takes at most this many entries, and this many products to form and to bound.
MAP_ENTRIES = 2**26
MAP_PRODUCTS = 2**38
# The norm of a matrix with no more rows costs next to nothing.
FEW_ROWS = 16


class LinearMap:
    """The linear part of a node, or its bound: `matrix` of shape (out, in) or None, |.|_2 and Frobenius `norm`s.

    `factor` is set for a multiple of the identity. `growth` is c in |A(w) - A(w0)|_2 <= c |w - w0|.
    """

    def __init__(self, matrix, norm, *, factor=None, growth=0.0):
        self.matrix, self.norm, self.factor, self.growth = matrix, norm, factor, growth

    @cached_property
    def frobenius(self):
        return self.matrix.norm().item()


class Map:
    """M(w) for w in the ball. `centre` is (samples, rows, columns) or, of a diagonal matrix, (samples, size), or None.

    `radius` is (samples,); of a diagonal (samples, size), entry by entry.
    """

    def __init__(self, centre, radius):
        self.centre, self.radius = centre, radius

    @staticmethod
    def identity(samples, size):
        return Map(torch.ones(samples, size, dtype=torch.float64), torch.zeros(samples, size, dtype=torch.float64))

    @property
    def diagonal(self):
        return self.centre is not None and self.centre.ndim == 2

    @cached_property
    def centre_norm(self):
        return spectral_norm_bound(self.centre)

    @cached_property
    def norm(self):
        """An upper bound of |M(w)|_2 over the ball, shape (samples,)."""
        if self.centre is None:
            return self.radius
        if self.diagonal:
            return (self.centre.abs() + self.radius).amax(dim=1)
        return self.centre_norm + self.radius

    def weighted_norm(self, weights):
        """An upper bound of |diag(weights) M(w)|_2 over the ball; weights >= 0 of shape (samples, rows)."""
        largest = weights.amax(dim=1)
        if self.centre is None:
            return largest * self.radius
        if self.diagonal:
            return (weights * (self.centre.abs() + self.radius)).amax(dim=1)
        product = weights[:, :, None] * self.centre
        rounding = UNIT * product.flatten(1).norm(dim=1)
        return torch.minimum(spectral_norm_bound(product) + rounding + largest * self.radius, largest * self.norm)

    def scaled(self, low, high):
        """diag(d) M(w) for any d between low and high, shape (samples, rows)."""
        middle, spread = (low + high) / 2, (high - low) / 2 + UNIT * (low.abs() + high.abs())
        largest = torch.maximum(low.abs(), high.abs())
        if self.centre is None:
            return Map(None, largest.amax(dim=1) * self.radius)
        if self.diagonal:
            centre = middle * self.centre
            return Map(centre, largest * self.radius + spread * self.centre.abs() + UNIT * centre.abs())
        centre = middle[:, :, None] * self.centre
        moved = spread.amax(dim=1) * self.centre_norm + UNIT * centre.flatten(1).norm(dim=1)
        return Map(centre, largest.amax(dim=1) * self.radius + moved)

    def after(self, linear, radius):
        """A(w) M(w) for the LinearMap A, with A(w) = A(w0) where `radius` is 0, else |A(w) - A(w0)|_2 <= growth radius."""
        if linear.factor is not None:
            return self.times(linear.factor)
        growth = linear.growth * radius
        if not self._fits(linear):
            return Map(None, (linear.norm + growth) * self.norm)
        if self.diagonal:
            centre = linear.matrix * self.centre[:, None, :]
            moved = linear.norm * self.radius.amax(dim=1)
            if len(linear.matrix) <= FEW_ROWS and self.radius.isfinite().all():
                moved = torch.minimum(moved, spectral_norm_bound(linear.matrix * self.radius[:, None, :]))
        else:
            centre = linear.matrix @ self.centre
            moved = linear.norm * self.radius
        rounding = UNIT * (linear.matrix.shape[1] + 2) * linear.frobenius * (self.centre.abs() + self._entry_radius).flatten(1).norm(dim=1)
        return Map(centre, moved + growth * self.norm + rounding)

    def plus(self, other):
        """M(w) + M'(w)."""
        if self.centre is None or other.centre is None:
            return Map(None, self.norm + other.norm)
        left, right = self, other
        if left.diagonal != right.diagonal:
            left, right = left._full(), right._full()
        centre = left.centre + right.centre
        rounding = UNIT * (centre.abs() if left.diagonal else centre.flatten(1).norm(dim=1))
        return Map(centre, left.radius + right.radius + rounding)

    def times(self, factor):
        """factor M(w)."""
        if self.centre is None:
            return Map(None, abs(factor) * self.radius)
        centre = factor * self.centre
        # The factor itself may be a rounded reciprocal.
        rounding = 2 * UNIT * (centre.abs() if self.diagonal else centre.flatten(1).norm(dim=1))
        return Map(centre, abs(factor) * self.radius + rounding)

    def _full(self):
        return Map(torch.diag_embed(self.centre), self.radius.amax(dim=1)) if self.diagonal else self

    @property
    def _entry_radius(self):
        return self.radius if self.diagonal else 0.0

    def _fits(self, linear):
        if self.centre is None or linear.matrix is None:
            return False
        rows, inner = linear.matrix.shape
        entries = len(self.centre) * rows * self.centre.shape[-1]
        return entries <= MAP_ENTRIES and entries * min(rows, inner, self.centre.shape[-1]) <= MAP_PRODUCTS
