"""The spectral norm of each equation's Hessian."""

from dataclasses import dataclass

import torch
from torch import Tensor

from plbook.hessian.coordinates import Coordinates
from plbook.hessian.lanczos import Lanczos, measured, start_generator
from plbook.hessian.products import hessian_products

# Lanczos vectors of the equations that are worked on together take at most this many bytes.
BASIS_BYTES = 2**29
# Products with whole Hessians go in groups of equations whose vectors take at most this many bytes.
VECTOR_BYTES = 2**25

# At most this many Lanczos steps; with no more coordinates it always takes one step for each, which is exact.
MAX_STEPS = 60
# Fewer steps than this may settle on an inner eigenvalue. So may a residual of rtol: of 3,160 equations of small random
# networks, at rtol = 1%, 35 had an eigenvalue beyond. With a residual this many times smaller none had.
MIN_STEPS, CAUTION = 8, 100


@dataclass(frozen=True, eq=False)
class HessianNorms:
    """Estimates of |H_i(w)|_2, one per equation, and the residual of each: an eigenvalue of H_i is as near, up to sign.

    Both are inf where second derivatives, or their squares, are not finite.
    """

    per_equation: Tensor
    residuals: Tensor

    @property
    def largest(self):
        """max_i |H_i|_2: what the paper calls the norm of the Hessian of F."""
        return self.per_equation.max().item()

    @property
    def joint(self):
        """|(|H_1|_2, ..., |H_n|_2)|_2 <= sqrt(n) largest: estimates a bound of how fast DF changes at w, all equations together."""
        return self.per_equation.norm().item()


def hessian_norms(system, w=None, *, rtol=1e-2):
    """The spectral norm of each equation's Hessian at w, by Lanczos. An estimate, forbidden inside certificates.

    Args:
        rtol: the relative accuracy asked for. Lanczos stops when the residual |H v - theta v| of every equation is below
            rtol |theta| / 100, and the other end of its spectrum with its own residual is no further out.

    Each value is |v^T H_i v| for a unit vector v, so never above the norm, and within its residual |H_i v - (v^T H_i v) v|
    of an absolute eigenvalue. Both are measured with a fresh product H_i v at the end, whatever led to v. That the
    eigenvalue is the largest is almost certain for a random start, but a residual does not prove it. The starts are
    seeded: the same call gives the same numbers. An equation that has not converged after 60 steps shows it by its
    residual.

    A Linear layer that multiplies one row per input by its weight, m x q, takes part with m + q numbers per equation in
    place of m q, without loss (chapter 6); other parameters take part as they are. With at most 60 numbers per equation
    every step is taken and the norms are exact up to rounding.

    Cost: 8 to 60 products per equation, each about 6 evaluations of its sample, all equations together, and one on the
    whole space. Memory: up to 0.75 GiB for the vectors, or one equation's.

    Raises:
        ValueError: for an rtol outside (0, 1).

    Source: the norm is the paper's max_i |H_{F_i}|_2, Section 2.
    """
    check_rtol(rtol)
    w = system.point(w)
    n = system.num_equations
    number = torch.arange(n, device=w.device)
    chunk = max(1, BASIS_BYTES // (8 * MAX_STEPS * Coordinates(system, w, number[:1]).size))
    generator = start_generator()
    found = [_chunk_norms(system, w, equations, generator, rtol) for equations in number.split(chunk)]
    values, residuals = (torch.cat(pieces) for pieces in zip(*found))
    finite = values.isfinite() & residuals.isfinite()
    return HessianNorms(*(numbers.abs().where(finite, torch.inf) for numbers in (values, residuals)))


def check_rtol(rtol):
    if not 0 < rtol < 1:
        raise ValueError(f"rtol is relative to an eigenvalue and must lie between 0 and 1, got {rtol}.")


def _chunk_norms(system, w, equations, generator, rtol):
    coordinates = Coordinates(system, w, equations)
    vectors = _largest_vectors(coordinates, generator, rtol)
    group = max(1, VECTOR_BYTES // (8 * system.num_parameters))
    found = []
    for first in range(0, len(equations), group):
        rows = slice(first, first + group)
        whole = coordinates.vectors(vectors[rows], rows)
        found.append(measured(whole, hessian_products(system, w, equations[rows], whole)))
    return [torch.cat(pieces) for pieces in zip(*found)]


def _largest_vectors(coordinates, generator, rtol):
    """Coordinates, shape (b, size), of an approximate unit eigenvector to each largest absolute eigenvalue."""
    vectors = coordinates.start(generator)
    space, rows = Lanczos(vectors, MAX_STEPS), torch.arange(len(vectors), device=vectors.device)
    least = coordinates.size if coordinates.size <= MAX_STEPS else MIN_STEPS
    together, product = coordinates.can_go_together(vectors), None
    while len(rows):
        product = product or coordinates.product(rows, together)
        krylov = space.step(product)
        largest, index = krylov.values.abs().max(dim=1)
        residual = krylov.residuals.gather(1, index[:, None])[:, 0]
        # The other end may be the larger one as long as its value and residual together are.
        reach = (krylov.values.abs() + krylov.residuals)[:, [0, -1]].amax(dim=1)
        done = torch.maximum(residual, reach - largest) <= rtol / CAUTION * largest
        done = (done & (krylov.steps >= least)) | space.full
        # Those that have converged leave when they are half: to drop some means to copy the others.
        if 2 * done.sum() >= len(rows):
            vectors[rows[done]] = krylov.vectors(index)[done]
            rows, product = rows[~done], None
            space.keep(~done)
    return vectors
