"""The extreme eigenvalues of the loss Hessian and of its two parts."""

from dataclasses import dataclass

import torch
from torch.func import grad

from plbook.hessian.lanczos import Lanczos, measured, rounding, start_generator
from plbook.hessian.norms import CAUTION, MIN_STEPS, check_rtol
from plbook.hessian.products import hessian_map

# At most this many Lanczos steps for each matrix. One with no more than the second number of rows gets a step for each.
MAX_STEPS = 200
ALL_STEPS = 60


@dataclass(frozen=True)
class ExtremeEigenvalues:
    """Estimates of a symmetric matrix's smallest and largest eigenvalue, each within its residual of an eigenvalue.

    Both lie between the true ones, so a `smallest` below 0 by more than rounding shows that the matrix is not positive
    semidefinite.
    """

    smallest: float
    largest: float
    smallest_residual: float
    largest_residual: float


@dataclass(frozen=True)
class LossHessianSpectrum:
    """The ends of the spectrum of the loss Hessian H_L = DF^T DF + sum_i r_i H_i, and of the two summands.

    `loss` is H_L, `gauss_newton` DF^T DF, `residual_weighted` the sum with the residual r = F(w) - y.
    """

    loss: ExtremeEigenvalues
    gauss_newton: ExtremeEigenvalues
    residual_weighted: ExtremeEigenvalues


def loss_hessian_spectrum(system, w=None, *, rtol=1e-2):
    """Smallest and largest eigenvalue of the Hessian of L = 1/2 |F - y|^2 at w, and of its two parts, by Lanczos.

    H_L = DF^T DF + sum_i (F_i(w) - y_i) H_i(w). The first part has the nonzero eigenvalues of K(w), so with p > n its
    smallest is 0 and is reported as just that; the second is indefinite, and the only source of negative curvature.

    Args:
        rtol: the relative accuracy asked for. Lanczos stops when the residuals |H v - theta v| of both ends are below
            rtol |theta| / 100, or at rounding.

    Values and residuals are measured with a fresh product at the end. They are estimates: a residual does not prove that
    an eigenvalue is the last one. An end that has not converged after 200 steps, as may one much smaller than the norm,
    shows it by its residual. With p <= 60 all is exact up to rounding. The start vectors are seeded.

    Cost: up to 200 products for each of the three, about 6 evaluations of F each; memory 8 p bytes a step.

    Raises:
        ValueError: for an rtol outside (0, 1), and where derivatives are not finite.

    Source: the Hessian of the square loss; the paper's Section 3 (not positive semidefinite near solutions) and its
    Theorem 6, whose step size is at most 1 / |H_L|_2.
    """
    check_rtol(rtol)
    w = system.point(w)
    residual = system.residual(w)

    def loss(point):
        return 0.5 * (system._function(point) - system.targets).square().sum()

    def weighted(point):
        return residual @ system._function(point)

    return LossHessianSpectrum(
        loss=ExtremeEigenvalues(*_ends(hessian_map(grad(loss), w), w, rtol)),
        gauss_newton=ExtremeEigenvalues(*_gauss_newton_ends(system, w, rtol)),
        residual_weighted=ExtremeEigenvalues(*_ends(hessian_map(grad(weighted), w), w, rtol)),
    )


def _gauss_newton_ends(system, w, rtol):
    """From K = DF DF^T where it has fewer rows than DF^T DF."""
    if system.num_parameters <= system.num_equations:
        return _ends(lambda v: system.vjp(w, system.jvp(w, v)), w, rtol)
    (largest, residual) = _ends(lambda u: system.jvp(w, system.vjp(w, u)), system.targets, rtol, ends=[-1])
    return 0.0, largest, 0.0, residual


def _ends(product, like, rtol, ends=(0, -1)):
    """The eigenvalues at these ends of a symmetric matrix's spectrum, then their residuals.

    The matrix is given by its product with vectors like this one.
    """
    size, ends = len(like), torch.tensor(ends, device=like.device)
    start = torch.randn(1, size, dtype=like.dtype, generator=start_generator()).to(like.device)
    space, finished = Lanczos(start, MAX_STEPS), False
    while not (finished or space.full):
        krylov = space.step(lambda rows: product(rows[0])[None])
        values, residuals = krylov.values[0].abs(), krylov.residuals[0, ends]
        exhausted = residuals <= rounding(size) * values.max()
        converged = (residuals <= rtol / CAUTION * values[ends]) & (krylov.steps >= MIN_STEPS) & (size > ALL_STEPS)
        finished = bool((converged | exhausted).all())
    vectors = torch.cat([krylov.vectors(end % krylov.steps) for end in ends[:, None]])
    values, residuals = measured(vectors, torch.stack([product(vector) for vector in vectors]))
    if not residuals.isfinite().all():
        raise ValueError("the derivatives of F are not finite at w. Scale the data, or choose another w.")
    return *values.tolist(), *residuals.tolist()
