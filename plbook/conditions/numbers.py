"""Condition numbers of the loss, and their bound."""

from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.func import grad, jvp, vmap

from plbook.conditions.points import COMPARISON_SLACK, pl_ratio
from plbook.hessian import hessian_norms
from plbook.systems.guards import as_points
from plbook.tangent_kernel import jacobian_norm

# The loss's Hessian is formed up to this many parameters; above, Lanczos works with its products.
DENSE_PARAMETERS = 300


@dataclass(frozen=True, eq=False)
class ConditionNumber:
    """mu, and the largest eigenvalue of the loss's Hessian at each of k points, shape (k,)."""

    mu: float
    largest_eigenvalues: Tensor

    @property
    def value(self):
        """The largest of them over mu."""
        return self.largest_eigenvalues.max().item() / self.mu


def condition_number(system, points, *, mu=None):
    """kappa = sup lambda_max(H_L) / mu over the points, for the square loss L.

    Args:
        points: shape (k, p).
        mu: a constant with which L is PL* at the points; None takes the largest one, the smallest of the PL ratios.

    kappa depends on the mu chosen. At a solution lambda_max(H_L) = lambda_max(K); away from one the residual takes part, and
    kappa can be below 1, even negative. So it is no bound for the condition number of K there, as the paper's Remark 8 says
    it is. For F(w) = A w of full row rank and mu = lambda_min(K), it is lambda_max(K) / lambda_min(K).

    What points give for a mu is a lower bound of kappa on a set that contains them. Up to 300 parameters H_L is formed;
    above, Lanczos finds its largest eigenvalue from a seeded start to a relative 1e-6, an estimate.

    Cost: per point p Hessian-vector products, or some dozens for more than 300 parameters.

    Raises:
        ValueError: for points of the wrong shape, if L is not PL* with mu at all of them, and for None if no mu > 0 is the
            largest: where the gradient vanishes off the solutions, or if all points are solutions.

    Source: the paper's Definition 4, equation (23), and Remark 7.
    """
    points = as_points(points, system.num_parameters)
    mu = _checked_mu(system, points, mu)
    largest = [_largest_eigenvalue(system, w) for w in points]
    return ConditionNumber(mu, torch.tensor(largest, dtype=torch.float64))


@dataclass(frozen=True)
class ConditionNumberBound:
    """(L_F^2 + beta_F r) / mu, made of constants measured at points (estimates, not bounds over a ball)."""

    mu: float
    jacobian_norm: float
    hessian_bound: float
    residual_norm: float

    @property
    def value(self):
        """(L_F^2 + beta_F r) / mu."""
        return (self.jacobian_norm**2 + self.hessian_bound * self.residual_norm) / self.mu


def condition_number_bound(system, points, *, mu=None):
    """The bound (L_F^2 + beta_F sup |F(w) - y|) / mu of the condition number, with its constants taken over the points.

    L_F is the largest |DF|_2, beta_F the largest |(|H_1|_2, ..., |H_n|_2)|_2: with the largest single |H_i|_2 instead, as
    the paper measures Hessians elsewhere, the bound is false. Arguments and errors are those of `condition_number`.

    Cost: a tangent kernel and the Hessian norms per point; the norms are good to 1%.

    Source: the paper's Proposition 5, equation (25).
    """
    points = as_points(points, system.num_parameters)
    return ConditionNumberBound(
        mu=_checked_mu(system, points, mu),
        jacobian_norm=max(jacobian_norm(system, w) for w in points),
        hessian_bound=max(hessian_norms(system, w).joint for w in points),
        residual_norm=max(system.residual(w).norm().item() for w in points),
    )


def _checked_mu(system, points, mu):
    """mu, or the smallest PL ratio for None; ValueError if L is not PL* with it."""
    ratios = [pl_ratio(system, w) for w in points]
    smallest = min(ratios)
    if mu is None:
        if not 0 < smallest < inf:
            reason = "all of them are solutions" if smallest == inf else f"the PL ratio is 0 at points[{ratios.index(0)}]"
            raise ValueError(f"the points have no largest mu > 0: {reason}. Pass mu, or other points.")
        return smallest
    if not (isfinite(mu) and mu > 0):
        raise ValueError(f"mu must be a finite number > 0, or None for the largest at the points; got {mu}.")
    if smallest < mu * (1 - COMPARISON_SLACK):
        raise ValueError(
            f"L is not PL* with mu = {mu} at points[{ratios.index(smallest)}]: its PL ratio is {smallest:.6g}. "
            "The condition number asks for a mu with which it is; None takes the largest."
        )
    return mu


def _largest_eigenvalue(system, w):
    """lambda_max(H_L(w))."""
    w, gradient = system.point(w), grad(system.loss)

    def product(vector):
        return jvp(gradient, (w,), (vector,))[1]

    if len(w) <= DENSE_PARAMETERS:
        return torch.linalg.eigvalsh(vmap(product)(torch.eye(len(w), dtype=w.dtype, device=w.device)))[-1].item()

    def on_arrays(vector):
        return product(torch.as_tensor(vector, device=w.device)).cpu().numpy()

    operator = LinearOperator((len(w), len(w)), matvec=on_arrays, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(len(w))
    return eigsh(operator, k=1, which="LA", v0=start, tol=1e-6, return_eigenvectors=False)[0].item()
