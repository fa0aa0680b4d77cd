"""PL*_epsilon along a path: how far down the loss PL* holds, and with which constant."""

from dataclasses import dataclass
from math import inf, nextafter

import torch
from torch import Tensor

from plbook.conditions.points import COMPARISON_SLACK, check_constant, ratio_and_loss
from plbook.systems.guards import as_points


@dataclass(frozen=True, eq=False)
class PLStarCurve:
    """The losses and PL ratios of k points, in their order, and what they allow of PL*_epsilon.

    mu(epsilon) = min of the PL ratios of the points with L >= epsilon: the largest constant with which PL*_epsilon holds
    at them. It is a step function that never falls: on (thresholds[j-1], thresholds[j]] it is constants[j], up to the first
    threshold constants[0], and beyond the last one, where no point counts, inf.
    """

    losses: Tensor
    ratios: Tensor
    thresholds: Tensor
    constants: Tensor

    def largest_mu(self, epsilon=0.0):
        """mu(epsilon); inf if no point has L >= epsilon, or only solutions have."""
        check_constant("epsilon", epsilon)
        # The first threshold that is at least epsilon.
        index = int(torch.searchsorted(self.thresholds, epsilon))
        return self.constants[index].item() if index < len(self.constants) else inf

    def smallest_epsilon(self, mu):
        """The smallest epsilon for which PL*_epsilon holds with mu at the points; 0 if PL* does.

        It is the next number above the largest loss of a point that fails, as a point with L = epsilon counts. If that is
        the largest loss of all, no point is left above epsilon: then largest_mu(epsilon) is inf. Ratios within a relative
        1e-10 of mu pass, as in `check_pl_star`.
        """
        check_constant("mu", mu)
        failing = self.losses[self.ratios < mu * (1 - COMPARISON_SLACK)]
        return nextafter(failing.max().item(), inf) if len(failing) else 0.0


def pl_star_curve(system, points):
    """For which epsilon and mu PL*_epsilon holds at all of the points of a path, a PLStarCurve.

    PL*_epsilon with constant mu: 1/2 |grad L|^2 >= mu L wherever L >= epsilon.

    Args:
        points: shape (k, p), for instance the `points` of a trajectory. Their order does not matter.

    A statement about these points, not about the space between them.

    Cost: about 3 evaluations of F per point.

    Raises:
        ValueError: for points of the wrong shape and where F is not finite.

    Source: the paper's Definition 5.
    """
    points = as_points(points, system.num_parameters)
    pairs = torch.tensor([ratio_and_loss(system, w) for w in points], dtype=torch.float64)
    ratios, losses = pairs.T.contiguous()
    thresholds, group = losses.unique(sorted=True, return_inverse=True)
    smallest = torch.full_like(thresholds, inf).scatter_reduce(0, group, ratios, "amin")
    constants = smallest.flip(0).cummin(dim=0).values.flip(0)
    return PLStarCurve(losses, ratios, thresholds, constants)
