"""The bend of a solution set, and the negative curvature of the loss that it causes."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, jvp

from plbook.hessian.lanczos import rounding, start_generator
from plbook.hessian.products import batched, hessian_map

# A quadratic form this much smaller than the Hessian that it is made of counts as 0: its vectors are good to rounding
# divided by the smallest singular value of DF.
NEGLIGIBLE = 1e-9
# Each round finds a sharper bend, or the same; later ones gain little.
ROUNDS = 4


@dataclass(frozen=True, eq=False)
class NegativeCurvature:
    """A direction v in which the loss curves downward beside a solution w, at the points w + t u with t > 0.

    `direction` is v, of length 1; `offset` is u. v^T H_L(w + t u) v = t `slope` + O(t^2), and `slope` is negative.
    Where `holds` is False there is no such pair of first order: both are None and `slope` is 0.
    """

    holds: bool
    direction: Tensor | None
    offset: Tensor | None
    slope: float


def negative_curvature(system, w=None):
    """The direction v and the offset u of Proposition 2's proof, at a solution w.

    v is a unit vector of ker DF(w). With h_i = v^T H_i(w) v and P the projection to the range of DF(w), u = -DF(w)^+ h is
    the shortest vector with DF(w) u = -P h, and the slope is -|P h|^2; where DF(w) has rank n, P h = h. A curve of
    solutions with the velocity v bends toward u: u is its acceleration, as far as it is normal to the solution set.

    v is a local maximum of |P h|, found by alternation from seeded weights: v is the extreme eigenvector of
    sum_i c_i H_i on ker DF(w), then c = P h. Such a v exists unless DF(w)^T h = 0 for every v in the kernel; then `holds`
    is False. A form below 1e-9 of the size of the Hessian on the kernel counts as 0.

    Args:
        w: a solution, as precise as `polish` makes it. Elsewhere v^T H_L v starts at <F(w) - y, h> in place of 0.

    Cost: four times p products and an eigenproblem of size p - n, memory of 24 p^2 bytes: for some thousands of unknowns.

    Raises:
        ValueError: where derivatives are not finite.

    Source: the paper's Appendix B, with the direction that the corrected statement of chapter 3 needs.
    """
    w = system.point(w)
    jacobian = system.jacobian(w)
    if not jacobian.isfinite().all():
        raise ValueError("the derivatives of F are not finite at w. Scale the data, or choose another w.")
    left, sigma, right = torch.linalg.svd(jacobian)
    rank = int((sigma > rounding(max(jacobian.shape)) * sigma[0]).sum())
    left, sigma, normal, tangent = left[:, :rank], sigma[:rank], right[:rank], right[rank:]
    weights = left @ torch.randn(rank, dtype=w.dtype, generator=start_generator()).to(w.device)
    for _ in range(ROUNDS):
        direction = _extreme_direction(system, w, weights, tangent)
        if direction is None:
            return NegativeCurvature(False, None, None, 0.0)
        bend = left.T @ _second_derivative(system, w, direction)
        weights = left @ bend
    return NegativeCurvature(True, direction, -(bend / sigma) @ normal, -(bend @ bend).item())


def _extreme_direction(system, w, weights, tangent):
    """The unit vector of the rows' span where sum_i weights_i v^T H_i v is largest in size; None if all of it is 0."""
    if not (len(tangent) and weights.any()):
        return None
    products = batched(hessian_map(grad(lambda point: weights @ system._function(point)), w))(tangent)
    form = products @ tangent.T
    values, vectors = torch.linalg.eigh((form + form.T) / 2)
    extreme = values.abs().argmax()
    if values[extreme].abs() <= NEGLIGIBLE * products.norm():
        return None
    return vectors[:, extreme] @ tangent


def _second_derivative(system, w, v):
    """(v^T H_1(w) v, ..., v^T H_n(w) v)."""

    def along(point):
        return jvp(system._function, (point,), (v,))[1]

    return jvp(along, (w,), (v,))[1]
