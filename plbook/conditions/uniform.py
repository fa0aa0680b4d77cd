"""Uniform conditioning: the infimum of lambda_min(K) over a ball, proved from below and searched from above."""

from dataclasses import dataclass
from math import isfinite, sqrt

import torch
from torch import Tensor
from torch.func import grad

from plbook.bounds import jacobian_lipschitz_bound
from plbook.tangent_kernel import kernel_spectrum, tangent_kernel
from plbook.verified.kernel import kernel_bounds
from plbook.verified.rigour import ESTIMATE, weakest
from plbook.verified.rounding import down, up

SAMPLES = 16  # random points of the ball
STARTS = 4  # descents: from the center, and from the samples with the smallest values
STEPS = 30  # of each descent
HALVINGS = 12  # of a step that does not lead down, before the descent ends


@dataclass(frozen=True, eq=False)
class UniformConditioning:
    """lower <= inf lambda_min(K) <= upper over the closed ball of this radius; `witness`, shape (p,), is where `upper` is.

    F is mu-uniformly conditioned on the ball for every mu <= `lower`, so the square loss is PL* there with that mu,
    whatever the targets are; for a mu > `upper` it is not. `rigour` is that of `lower`.
    """

    radius: float
    lower: float
    upper: float
    witness: Tensor
    rigour: str


def uniform_conditioning(system, radius, w=None):
    """A bracket of inf lambda_min(K(v)) over the closed ball of this radius about w: a UniformConditioning.

    From below: singular values move by at most |DF(v) - DF(w)|_2 <= beta |v - w|, so
    lower = max(0, sqrt(lambda_min(K(w))) - beta radius)^2, from a proven lower bound of lambda_min(K(w)) and a proven beta,
    rounded downward. Its rigour is the weaker one of these two. If beta is only an estimate, nothing follows from it:
    `lower` is 0 then, which is true of every kernel, and the rigour "estimate".

    From above: the smallest value that a seeded search finds, by descent of sigma_min(DF)^2 from the center and from
    random points of the ball, computed in floating point at the witness.

    Cost: the two bounds of chapter 12, and some hundreds of tangent kernels with their eigenvalues.

    Raises:
        ValueError: for a radius that is not positive and finite, where DF is not finite, and for activations whose
            derivative jumps, ReLU for one (no beta exists).

    Source: the paper's Definition 3, and its Theorem 2 in the form that Weyl's inequality for singular values gives it.
    """
    if not (isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be a finite number > 0, got {radius}.")
    w = system.point(w)
    beta, center = jacobian_lipschitz_bound(system, radius, w), kernel_bounds(system, w)
    rigour = weakest((beta.rigour, center.rigour))
    lower = 0.0 if rigour == ESTIMATE else _lower_end(center.smallest_eigenvalue, beta.center, radius)
    witness = _lowest_point(system, w, radius)
    return UniformConditioning(radius, lower, kernel_spectrum(system, witness).smallest, witness, rigour)


def _lower_end(smallest_eigenvalue, beta, radius):
    """max(0, sqrt(smallest_eigenvalue) - beta radius)^2, rounded downward."""
    root = down(down(sqrt(max(0.0, smallest_eigenvalue))) - up(beta * radius))
    return max(0.0, down(root**2)) if root > 0 else 0.0


def _lowest_point(system, w, radius):
    """The point of the ball with the smallest sigma_min(DF)^2 that is found."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(SAMPLES, len(w), dtype=w.dtype, generator=generator)
    lengths = radius * torch.rand(SAMPLES, 1, dtype=w.dtype, generator=generator)
    samples = w + (steps * lengths / steps.norm(dim=1, keepdim=True)).to(w.device)
    samples = sorted(samples, key=lambda point: _smallest(system, point)[0])
    return min((_descend(system, w, radius, start) for start in (w, *samples[: STARTS - 1])), key=lambda found: found[0])[1]


def _descend(system, w, radius, point):
    """(value, point) at the end of a descent of sigma_min(DF)^2 that stays in the ball about w."""
    value, direction = _smallest(system, point)
    for _ in range(STEPS):
        slope = grad(lambda v: system.vjp(v, direction).square().sum())(point)
        if not slope.any():
            break
        # To first order sigma_min is 0 after this step.
        step = 2 * value / slope.square().sum() * slope
        for _ in range(HALVINGS):
            farther = _inside(point - step, w, radius)
            lower, turned = _smallest(system, farther)
            if lower < value:
                break
            step = step / 2
        else:
            break
        point, value, direction = farther, lower, turned
    return value, point


def _smallest(system, point):
    """sigma_min(DF)^2 and its left singular vector: |DF^T u|^2 keeps digits that the eigenvalue of K has lost."""
    kernel = tangent_kernel(system, point)
    if not kernel.isfinite().all():
        raise ValueError("the derivative of F is not finite at a point of the ball. Choose a smaller radius.")
    vector = torch.linalg.eigh(kernel).eigenvectors[:, 0]
    return system.vjp(point, vector).square().sum().item(), vector


def _inside(point, w, radius):
    """The nearest point of the ball."""
    away = point - w
    return w + away * min(1.0, radius / away.norm().item())
