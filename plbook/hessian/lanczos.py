"""Lanczos for several symmetric matrices at once, known by their products only."""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

# Of the random starts. Data and weights are often drawn with seed 0, and a start that is a row of DF, say, would never
# leave the space of its rows.
SEED = 271828


@dataclass(frozen=True, eq=False)
class Krylov:
    """What is known of b symmetric matrices after k steps.

    `values` has the Ritz values of each in ascending order, shape (b, k), and `residuals` the |A v - theta v| that belong
    to them in exact arithmetic. All Ritz values lie between the extreme eigenvalues.
    """

    values: Tensor
    residuals: Tensor
    basis: Tensor
    coefficients: Tensor

    @property
    def steps(self):
        """k."""
        return self.values.shape[1]

    def vectors(self, index):
        """Unit Ritz vectors, shape (b, p): of each matrix the one with this index, shape (b,)."""
        chosen = self.coefficients.gather(2, index[:, None, None].expand(-1, self.steps, 1))
        vectors = (self.basis.transpose(1, 2) @ chosen)[:, :, 0]
        return vectors / vectors.norm(dim=1, keepdim=True)


class Lanczos:
    """The method for b matrices at once, from start vectors of shape (b, p), until `full`: after `max_steps` or p steps.

    Memory: b k p numbers after k steps.
    """

    def __init__(self, start, max_steps):
        self.steps, self.max_steps = 0, min(start.shape[1], max_steps)
        self.basis = start.new_empty(len(start), self.max_steps, start.shape[1])
        self.next = start / start.norm(dim=1, keepdim=True)
        self.diagonal = self.off_diagonal = start.new_empty(len(start), 0)

    @property
    def full(self):
        """Whether all steps are taken."""
        return self.steps == self.max_steps

    def step(self, product):
        """A Krylov after one more step. `product` maps vectors of shape (b, p) to their images under the matrices.

        An image that has no finite length counts as zero, and so ends its Krylov space.
        """
        self.basis[:, self.steps] = self.next
        image = product(self.next)
        image = torch.where(image.norm(dim=1, keepdim=True).isfinite(), image, 0.0)
        alpha = (image * self.next).sum(dim=1, keepdim=True)
        image -= alpha * self.next
        if self.steps:
            image -= self.off_diagonal[:, -1:] * self.basis[:, self.steps - 1]
        self.steps += 1
        # Against everything so far, since plain Lanczos loses orthogonality and repeats eigenvalues; and once more if that
        # left little, which then is not orthogonal yet.
        known = self.basis[:, : self.steps]
        for _ in range(2):
            before = image.norm(dim=1)
            image -= torch.bmm(torch.bmm(known, image[:, :, None]).transpose(1, 2), known)[:, 0]
            length = image.norm(dim=1)
            if bool((length >= 0.1 * before).all()):
                break
        self.diagonal = torch.cat([self.diagonal, alpha], dim=1)
        values, coefficients = torch.linalg.eigh(_tridiagonal(self.diagonal, self.off_diagonal))
        # A Krylov space that is exhausted goes on with a zero vector, which adds only zeros to the spectrum.
        exhausted = length <= rounding(image.shape[1]) * values.abs().amax(dim=1)
        self.off_diagonal = torch.cat([self.off_diagonal, length.where(~exhausted, 0.0)[:, None]], dim=1)
        self.next = torch.where(exhausted[:, None], 0.0, image / length.clamp(min=torch.finfo(image.dtype).tiny)[:, None])
        return Krylov(values, length[:, None] * coefficients[:, -1].abs(), known, coefficients)

    def keep(self, rows):
        """Go on with some of the matrices only."""
        for name in ("basis", "next", "diagonal", "off_diagonal"):
            setattr(self, name, getattr(self, name)[rows])


def start_generator():
    """The generator of random starts: the same call gives the same numbers."""
    return torch.Generator().manual_seed(SEED)


def rounding(p):
    """Relative to the norm of a matrix, a residual that rounding alone may leave in p unknowns."""
    return 100 * sqrt(p) * torch.finfo(torch.float64).eps


def measured(vectors, images):
    """(values, residuals) of unit vectors v, from their images A v: the Rayleigh quotients v^T A v and |A v - value v|."""
    values = (vectors * images).sum(dim=1)
    return values, (images - values[:, None] * vectors).norm(dim=1)


def _tridiagonal(diagonal, off_diagonal):
    return torch.diag_embed(diagonal) + torch.diag_embed(off_diagonal, offset=1) + torch.diag_embed(off_diagonal, offset=-1)
