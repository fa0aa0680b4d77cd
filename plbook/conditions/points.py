"""The PL ratio, and the PL* condition checked at points."""

from dataclasses import dataclass
from math import inf, isfinite

from torch import Tensor

from plbook.systems.guards import as_points

# mu is compared with ratios computed in float64; a relative difference below this counts as rounding, not as a failure.
COMPARISON_SLACK = 1e-10


def pl_ratio(system, w=None):
    """1/2 |grad L(w)|^2 / L(w): the largest mu for which PL* holds at w; inf where L = 0.

    It equals |DF(w)^T u|^2 with u the unit residual, and is computed so: no square of a small residual underflows.
    It lies between the smallest and the largest eigenvalue of K(w). Cost: about 3 evaluations of F.

    Source: the paper's equation (3), with the factor 1/2 that its proofs use.
    """
    return ratio_and_loss(system, system.point(w))[0]


def ratio_and_loss(system, w):
    """The PL ratio and the loss at w."""
    residual = system.residual(w)
    if not residual.isfinite().all():
        raise ValueError("F(w) is not finite at one of the points: its PL ratio is not defined there.")
    scale = residual.abs().max()
    if scale == 0:
        return inf, 0.0
    direction = residual / scale
    direction = direction / direction.norm()
    ratio = system.vjp(w, direction).square().sum().item()
    if not isfinite(ratio):
        raise ValueError(f"the derivative of F is not finite at one of the points: its PL ratio comes out as {ratio}.")
    return ratio, (0.5 * residual @ residual).item()


@dataclass(frozen=True, eq=False)
class PLStarCheck:
    """The outcome of `check_pl_star`."""

    mu: float
    epsilon: float
    num_checked: int
    holds: bool
    smallest_ratio: float
    witness: Tensor | None


def check_pl_star(system, mu, points, *, epsilon=0.0):
    """Whether 1/2 |grad L|^2 >= mu L at every given point with L >= epsilon.

    Args:
        mu: the constant to check, >= 0.
        points: shape (k, p), the points to look at.
        epsilon: only points with a loss of at least this count (PL*_epsilon); 0 counts every point.

    Returns:
        A PLStarCheck: `num_checked` points counted; `smallest_ratio` is the smallest PL ratio among them (inf if there
        were none); `witness` is the point that has it if the condition fails, else None. A check of points says
        nothing about the space between them: `holds` means that no counterexample was among the points.
        Ratios within a relative 1e-10 of mu pass as rounding; rounding may be larger where the ratio is many orders
        below |DF|_2^2 or the residual many orders below the targets.

    Cost: about 3 evaluations of F per point.

    Raises:
        ValueError: for a negative mu or epsilon, for points of the wrong shape, and where F is not finite.

    Source: the paper's equation (3) and Definition 5.
    """
    check_constant("mu", mu)
    check_constant("epsilon", epsilon)
    points = as_points(points, system.num_parameters)

    ratios = [(ratio, w) for w in points for ratio, loss in [ratio_and_loss(system, w)] if loss >= epsilon]
    smallest, witness = min(ratios, key=lambda pair: pair[0], default=(inf, None))
    holds = smallest >= mu * (1 - COMPARISON_SLACK)
    return PLStarCheck(mu, epsilon, len(ratios), holds, smallest, None if holds else witness)


def check_constant(name, value):
    """ValueError unless the value is finite and >= 0."""
    if not (isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number >= 0, got {value}.")
