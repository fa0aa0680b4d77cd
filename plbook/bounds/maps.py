"""The derivatives of one node's value by another's, over a whole ball: a center and a radius for each sample.

A Map holds what is known of the matrices M(w), w in the ball: |M(w) - center|_2 <= radius. The center is a diagonal, a
full matrix, or 0 where a matrix would be too large; then the radius bounds |M(w)|_2 itself, as a product of norms. Any
center would be right: rounding in it goes into the radius, too.
"""

from functools import cached_property

import torch

from plbook.verified.matrices import spectral_norm_bound

UNIT = torch.finfo(torch.float64).eps
TINY = torch.finfo(torch.float64).tiny
# A center takes at most this many entries, and this many products to form and to bound.
MAP_ENTRIES = 2**26
MAP_PRODUCTS = 2**38
# The norm of a matrix with no more rows costs next to nothing.
FEW_ROWS = 16


def length(x, dim=None):
    """|x|_2 over dimensions, a little more than it at most, without underflow on the way: squares of 1e-170 are 0."""
    dim = tuple(range(x.ndim)) if dim is None else dim
    largest = x.abs().amax(dim=dim, keepdim=True)
    scaled = torch.where(largest > 0, x / largest.clamp(min=TINY), 0.0)
    return largest.squeeze(dim) * torch.linalg.vector_norm(scaled, dim=dim) + TINY


class LinearMap:
    """The linear part of a node, or its bound: `matrix` of shape (out, in) or None, |.|_2 and Frobenius `norm`s.

    `factor` is set for a multiple of the identity. `growth` is c in |A(w) - A(w0)|_2 <= c |w - w0|.
    """

    def __init__(self, matrix, norm, *, factor=None, growth=0.0):
        self.matrix, self.norm, self.factor, self.growth = matrix, norm, factor, growth

    @cached_property
    def frobenius(self):
        return length(self.matrix).item()


class Map:
    """M(w) for w in the ball. `center` is (samples, rows, columns) or, of a diagonal matrix, (samples, size), or None.

    `radius` is (samples,); of a diagonal (samples, size), entry by entry.
    """

    def __init__(self, center, radius):
        self.center, self.radius = center, radius

    @staticmethod
    def identity(samples, size):
        return Map(torch.ones(samples, size, dtype=torch.float64), torch.zeros(samples, size, dtype=torch.float64))

    @property
    def diagonal(self):
        return self.center is not None and self.center.ndim == 2

    @cached_property
    def center_norm(self):
        return spectral_norm_bound(self.center)

    @cached_property
    def norm(self):
        """An upper bound of |M(w)|_2 over the ball, shape (samples,)."""
        if self.center is None:
            return self.radius
        if self.diagonal:
            return (self.center.abs() + self.radius).amax(dim=1)
        return self.center_norm + self.radius

    def weighted_norm(self, weights):
        """An upper bound of |diag(weights) M(w)|_2 over the ball; weights >= 0 of shape (samples, rows)."""
        largest = weights.amax(dim=1)
        if self.center is None:
            return largest * self.radius
        if self.diagonal:
            return (weights * (self.center.abs() + self.radius)).amax(dim=1)
        product = weights[:, :, None] * self.center
        rounding = UNIT * length(product.flatten(1), 1)
        return torch.minimum(spectral_norm_bound(product) + rounding + largest * self.radius, largest * self.norm)

    def scaled(self, low, high):
        """diag(d) M(w) for any d between low and high, shape (samples, rows)."""
        middle, spread = (low + high) / 2, (high - low) / 2 + UNIT * (low.abs() + high.abs())
        largest = torch.maximum(low.abs(), high.abs())
        if self.center is None:
            return Map(None, largest.amax(dim=1) * self.radius)
        if self.diagonal:
            center = middle * self.center
            return Map(center, largest * self.radius + spread * self.center.abs() + UNIT * center.abs())
        center = middle[:, :, None] * self.center
        moved = spread.amax(dim=1) * self.center_norm + UNIT * length(center.flatten(1), 1)
        return Map(center, largest.amax(dim=1) * self.radius + moved)

    def after(self, linear, radius):
        """A(w) M(w) for the LinearMap A, with A(w) = A(w0) where `radius` is 0, else |A(w) - A(w0)|_2 <= growth radius."""
        if linear.factor is not None:
            return self.times(linear.factor)
        growth = linear.growth * radius
        if not self._fits(linear):
            return Map(None, (linear.norm + growth) * self.norm)
        if self.diagonal:
            center = linear.matrix * self.center[:, None, :]
            moved = linear.norm * self.radius.amax(dim=1)
            if len(linear.matrix) <= FEW_ROWS and self.radius.isfinite().all():
                moved = torch.minimum(moved, spectral_norm_bound(linear.matrix * self.radius[:, None, :]))
        else:
            center = linear.matrix @ self.center
            moved = linear.norm * self.radius
        rounding = UNIT * (linear.matrix.shape[1] + 2) * linear.frobenius * length((self.center.abs() + self._entry_radius).flatten(1), 1)
        return Map(center, moved + growth * self.norm + rounding)

    def plus(self, other):
        """M(w) + M'(w)."""
        if self.center is None or other.center is None:
            return Map(None, self.norm + other.norm)
        left, right = self, other
        if left.diagonal != right.diagonal:
            left, right = left._full(), right._full()
        center = left.center + right.center
        rounding = UNIT * (center.abs() if left.diagonal else length(center.flatten(1), 1))
        return Map(center, left.radius + right.radius + rounding)

    def times(self, factor):
        """factor M(w)."""
        if self.center is None:
            return Map(None, abs(factor) * self.radius)
        center = factor * self.center
        # The factor itself may be a rounded reciprocal.
        rounding = 2 * UNIT * (center.abs() if self.diagonal else length(center.flatten(1), 1))
        return Map(center, abs(factor) * self.radius + rounding)

    def _full(self):
        return Map(torch.diag_embed(self.center), self.radius.amax(dim=1)) if self.diagonal else self

    @property
    def _entry_radius(self):
        return self.radius if self.diagonal else 0.0

    def _fits(self, linear):
        if self.center is None or linear.matrix is None:
            return False
        rows, inner = linear.matrix.shape
        entries = len(self.center) * rows * self.center.shape[-1]
        return entries <= MAP_ENTRIES and entries * min(rows, inner, self.center.shape[-1]) <= MAP_PRODUCTS
