"""Gauss-Newton steps that bring a trained system near enough to a solution for the certificate."""

from dataclasses import dataclass

import torch
from torch import Tensor

from plbook.tangent_kernel import tangent_kernel

# Near a solution a step squares the residual. One that leaves more than half of it, where it is this small a part of
# |F| + |y|, has met the rounding errors.
SLOW, SMALL = 0.5, 1e-10
# How often a step is halved before the search ends.
HALVINGS = 10


@dataclass(frozen=True, eq=False)
class PolishedPoint:
    """The outcome of `polish`: the best point `w`, |F - y| at the start and after every step, and why it ended."""

    w: Tensor
    residual_norms: tuple
    distance: float
    status: str

    @property
    def steps(self):
        """The number of steps taken."""
        return len(self.residual_norms) - 1


def polish(system, w=None, *, max_steps=20):
    """Gauss-Newton steps w <- w + DF(w)^T K(w)^{-1} (y - F(w)) until the residual is as small as rounding allows.

    Each step solves the linearized equations with the shortest possible move; near a solution with a nonsingular K it
    squares the residual. DF is never formed: K comes from `tangent_kernel`, DF^T times a vector from `system.vjp`. A step
    that does not lower the residual is halved up to ten times.

    Cost of a step: a tangent kernel, its factorization (n^3 / 3) and a few evaluations of F.

    Raises:
        ValueError: if max_steps is not a whole number >= 1.

    Source: chapter 12; the step is that of the Newton-Kantorovich theorem for underdetermined systems.
    """
    if not (max_steps >= 1 and int(max_steps) == max_steps):
        raise ValueError(f"max_steps must be a whole number >= 1, got {max_steps}.")
    start = w = system.point(w)
    residual = system.residual(w)
    norms, status = [residual.norm().item()], "took all its steps"
    for _ in range(max_steps):
        if norms[-1] == 0:
            status = "the residual is 0"
            break
        factor, failed = torch.linalg.cholesky_ex(tangent_kernel(system, w))
        if failed:
            status = "stopped: the tangent kernel is singular, as far as it can be computed"
            break
        step = system.vjp(w, torch.cholesky_solve(-residual[:, None], factor)[:, 0])
        for halving in range(HALVINGS):
            nearer = w + step / 2**halving
            moved = system.residual(nearer)
            if moved.norm() < norms[-1]:
                break
        else:
            status = "the residual cannot be lowered further"
            break
        w, residual = nearer, moved
        norms.append(residual.norm().item())
        size = (residual + system.targets).norm().item() + system.targets.norm().item()
        if norms[-1] > SLOW * norms[-2] and norms[-1] < SMALL * size:
            status = "the residual cannot be lowered further"
            break
    return PolishedPoint(w, tuple(norms), (w - start).norm().item(), status)
