"""Hessians of the equations and their spectral norms: chapters 5 and 6.

H_i(w) is the p x p matrix of second derivatives of F_i. It is symmetric and in general indefinite; its spectral
norm is its largest absolute eigenvalue. The matrices are never formed: Lanczos needs products H_i v only.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

# Lanczos vectors of the equations that are worked on together take at most this many bytes.
BASIS_BYTES = 2**29

# At most this many Lanczos steps; a system with no more unknowns always takes one step per unknown, which is exact.
MAX_STEPS = 60

# Fewer steps than this may settle on an inner eigenvalue.
MIN_STEPS = 8


@dataclass(frozen=True, eq=False)
class HessianNorms:
    """Estimates of |H_i(w)|_2, one per equation, with the Lanczos residual of each."""

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


def hessian_products(system, w, equations, vectors):
    """The rows H_i(w) v_i, shape (k, p), for equation numbers of shape (k,) and vectors of shape (k, p).

    Cost: one forward-over-reverse pass per row, about 6 evaluations of that equation's sample.
    """
    outputs = system._outputs
    samples = system._samples[equations // outputs]
    picks = torch.eye(outputs, dtype=w.dtype, device=w.device)[equations % outputs]

    def product(sample, pick, vector):
        gradient = grad(lambda point: system._sample_value(point, sample) @ pick)
        return jvp(gradient, (w,), (vector,))[1]

    return vmap(product)(samples, picks, vectors)


def hessian_norms(system, w=None, *, rtol=1e-2):
    """The spectral norm of each equation's Hessian at w, by Lanczos. An estimate, forbidden inside certificates.

    Args:
        rtol: stop when the residual |H v - theta v| is below rtol |theta| for every equation.

    Each value is within its residual of some eigenvalue of H_i. Lanczos from a random start almost always finds the
    one that is largest in absolute value, but a residual does not prove it. The start vectors are seeded: the same
    call gives the same numbers. An equation that has not converged after 60 steps shows a residual above rtol |theta|.

    Cost: 8 to 60 Hessian-vector products per equation; memory up to 0.5 GiB for the vectors, or one equation's.

    Source: the norm is the paper's max_i |H_{F_i}|_2, Section 2.
    """
    w = system.point(w)
    n, p = system.num_equations, system.num_parameters
    chunk = max(1, BASIS_BYTES // (8 * p * MAX_STEPS))
    generator = torch.Generator().manual_seed(0)
    norms, residuals = [], []
    for first in range(0, n, chunk):
        equations = torch.arange(first, min(n, first + chunk), device=w.device)
        start = torch.randn(len(equations), p, dtype=w.dtype, generator=generator).to(w.device)
        norm, residual = _lanczos(lambda v: hessian_products(system, w, equations, v), start, rtol)
        norms.append(norm)
        residuals.append(residual)
    return HessianNorms(torch.cat(norms), torch.cat(residuals))


def _lanczos(product, start, rtol):
    """The largest absolute eigenvalue of each of b symmetric matrices, and its residual, from a start of shape (b, p)."""
    batch, p = start.shape
    steps = min(p, MAX_STEPS)
    rows = torch.arange(batch, device=start.device)
    basis = start.new_empty(batch, steps, p)
    vector = start / start.norm(dim=1, keepdim=True)
    diagonal, off_diagonal = [], []
    for step in range(1, steps + 1):
        basis[:, step - 1] = vector
        image = product(vector)
        diagonal.append((image * vector).sum(dim=1))
        image -= diagonal[-1][:, None] * vector
        if off_diagonal:
            image -= off_diagonal[-1][:, None] * basis[:, step - 2]
        # Once more against everything so far: plain Lanczos loses orthogonality and repeats eigenvalues.
        known = basis[:, :step]
        image -= torch.bmm(torch.bmm(known, image[:, :, None]).transpose(1, 2), known)[:, 0]
        length = image.norm(dim=1)
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, off_diagonal))
        index = values.abs().argmax(dim=1)
        norm = values[rows, index].abs()
        residual = length * vectors[rows, -1, index].abs()
        if step >= (p if p <= MAX_STEPS else MIN_STEPS) and bool((residual <= rtol * norm).all()):
            break
        # A Krylov space that is exhausted goes on with a zero vector, which adds only zeros to the spectrum.
        exhausted = length <= 100 * sqrt(p) * torch.finfo(start.dtype).eps * norm
        off_diagonal.append(torch.where(exhausted, 0.0, length))
        vector = torch.where(exhausted[:, None], 0.0, image / length.clamp(min=torch.finfo(start.dtype).tiny)[:, None])
    return norm, residual


def _tridiagonal(diagonal, off_diagonal):
    matrix = torch.diag_embed(torch.stack(diagonal, dim=1))
    if off_diagonal:
        side = torch.stack(off_diagonal, dim=1)
        matrix = matrix + torch.diag_embed(side, offset=1) + torch.diag_embed(side, offset=-1)
    return matrix
