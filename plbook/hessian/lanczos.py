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


def start_generator():
    """The generator of random starts: the same call gives the same numbers."""
    return torch.Generator().manual_seed(SEED)


def lanczos(product, start, max_steps):
    """Yield a Krylov after each step, at most `max_steps` or p of them; the caller stops when it knows enough.

    `product` maps vectors of shape (b, p) to their images under b matrices, `start` has that shape, too. An image that is
    not finite counts as zero and so ends its Krylov space. Memory: k b p numbers after k steps.
    """
    batch, p = start.shape
    steps = min(p, max_steps)
    basis = start.new_empty(batch, steps, p)
    vector = start / start.norm(dim=1, keepdim=True)
    diagonal, off_diagonal = [], []
    for step in range(1, steps + 1):
        basis[:, step - 1] = vector
        image = product(vector)
        image = torch.where(image.isfinite().all(dim=1, keepdim=True), image, 0.0)
        diagonal.append((image * vector).sum(dim=1))
        image -= diagonal[-1][:, None] * vector
        if off_diagonal:
            image -= off_diagonal[-1][:, None] * basis[:, step - 2]
        # Against everything so far, since plain Lanczos loses orthogonality and repeats eigenvalues; and once more if that
        # left little, which then is not orthogonal yet.
        known = basis[:, :step]
        for _ in range(2):
            before = image.norm(dim=1)
            image -= torch.bmm(torch.bmm(known, image[:, :, None]).transpose(1, 2), known)[:, 0]
            length = image.norm(dim=1)
            if bool((length >= 0.1 * before).all()):
                break
        values, coefficients = torch.linalg.eigh(_tridiagonal(diagonal, off_diagonal))
        yield Krylov(values, length[:, None] * coefficients[:, -1].abs(), known, coefficients)
        # A Krylov space that is exhausted goes on with a zero vector, which adds only zeros to the spectrum.
        exhausted = length <= rounding(p) * values.abs().amax(dim=1)
        off_diagonal.append(torch.where(exhausted, 0.0, length))
        vector = torch.where(exhausted[:, None], 0.0, image / length.clamp(min=torch.finfo(start.dtype).tiny)[:, None])


def rounding(p):
    """Relative to the norm of a matrix, a residual that rounding alone may leave in p unknowns."""
    return 100 * sqrt(p) * torch.finfo(torch.float64).eps


def measured(vectors, images):
    """(values, residuals) of unit vectors v, from their images A v: the Rayleigh quotients v^T A v and |A v - value v|."""
    values = (vectors * images).sum(dim=1)
    return values, (images - values[:, None] * vectors).norm(dim=1)


def _tridiagonal(diagonal, off_diagonal):
    matrix = torch.diag_embed(torch.stack(diagonal, dim=1))
    if off_diagonal:
        side = torch.stack(off_diagonal, dim=1)
        matrix = matrix + torch.diag_embed(side, offset=1) + torch.diag_embed(side, offset=-1)
    return matrix
