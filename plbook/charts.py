"""Equations on manifolds, in coordinates: charts of the sphere and of the rotations, and what a change of them does: chapter 11."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacrev

from plbook.systems.guards import as_points
from plbook.tangent_kernel import kernel_spectrum
from plbook.transforms import input_transform


def stereographic(v):
    """The point (2 v, 1 - |v|^2) / (1 + |v|^2) of the unit sphere: every point but (0, ..., 0, -1), shape (d,) to (d + 1,).

    Conformal: J^T J = (2 / (1 + |v|^2))^2 I, so it scales all directions alike.
    """
    square = v @ v
    return torch.cat([2 * v, (1 - square)[None]]) / (1 + square)


def hemisphere(v):
    """The point (v, sqrt(1 - |v|^2)) of the unit sphere, for |v| < 1: the sphere as a graph, shape (d,) to (d + 1,).

    J^T J = I + v v^T / (1 - |v|^2): lengths along v grow by the factor 1 / sqrt(1 - |v|^2), others stay.
    """
    return torch.cat([v, (1 - v @ v).sqrt()[None]])


def rotation(a):
    """exp(A), the rotation of R^3 about the axis a by the angle |a|, where A x = a x x is the cross product; (3,) to (3, 3)."""
    return torch.linalg.matrix_exp(_cross(a))


def cayley(a):
    """(I - A/2)^-1 (I + A/2): the rotation about a by the angle 2 atan(|a| / 2), without a matrix exponential; (3,) to (3, 3)."""
    half, one = _cross(a) / 2, torch.eye(3, dtype=a.dtype)
    return torch.linalg.solve(one - half, one + half)


def _cross(a):
    """The matrix A with A x = a x x."""
    zero = torch.zeros_like(a[0])
    return torch.stack([zero, -a[2], a[1], a[2], zero, -a[0], -a[1], a[0], zero]).reshape(3, 3)


@dataclass(frozen=True, eq=False)
class CoordinateChange:
    """What new coordinates do at k points; each of shape (k, 2), the smallest and the largest.

    `stretches` are singular values of the change's Jacobian, `before` and `after` eigenvalues of K in old and new
    coordinates. Each eigenvalue after is the one before times a factor between the two stretches squared.
    """

    stretches: Tensor
    before: Tensor
    after: Tensor

    @property
    def ratios(self):
        """By which factor the condition number of K has changed, shape (k,)."""
        return self.after[:, 1] / self.after[:, 0] / (self.before[:, 1] / self.before[:, 0])

    @property
    def allowed(self):
        """(largest / smallest stretch)^2, shape (k,): the ratios lie between this and its inverse."""
        return (self.stretches[:, 1] / self.stretches[:, 0]).square()


def coordinate_change(system, change, points):
    """The kernels of F(u) and of F(change(v)) at the same points, and the stretches that bound their quotient.

    Args:
        system: F in the old coordinates u, shape (p,).
        change: from new coordinates v, shape (p,), to old ones, made of torch operations.
        points: shape (k, p), in the new coordinates.

    Returns:
        A CoordinateChange.

    Cost: two kernel spectra and a Jacobian of the change per point.

    Raises:
        ValueError: for points of the wrong shape, if the change does not return shape (p,), and where the change is not
            finite or its Jacobian is singular up to rounding.

    Source: the paper's Section 7 (equations on manifolds) and Remark 4.
    """
    points = as_points(points, system.num_parameters)
    new = input_transform(system, change, points[0])
    stretches, before, after = [], [], []
    for index, v in enumerate(points):
        singular = torch.linalg.svdvals(jacrev(change)(v).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0))
        if singular[-1] <= len(v) * torch.finfo(v.dtype).eps * singular[0]:
            raise ValueError(f"the Jacobian of the change is singular or not finite at points[{index}]: no coordinates there.")
        stretches.append([singular[-1].item(), singular[0].item()])
        for spectra, spectrum in ((before, kernel_spectrum(system, change(v))), (after, kernel_spectrum(new, v))):
            spectra.append([spectrum.smallest, spectrum.largest])
    return CoordinateChange(*(torch.tensor(values, dtype=torch.float64) for values in (stretches, before, after)))
