"""One equation on which the heavy ball never arrives."""

import torch

from plbook.systems import System


def kinked(start=3.3):
    """One equation in one unknown, F(w) = 0, whose loss has slope L' = 25 w, then w + 24 from w = 1, then 25 w - 24 from w = 2.

    So L'' is 25 or 1: L is strongly convex with constant 1, hence 1-PL*, its gradient has Lipschitz constant 25, and the only
    solution is 0. F(w) = 5 w up to 1, beyond it sqrt(2 L) with L = w^2/2 + 24 w - 12 and then L = 25 w^2/2 - 24 w + 36. With
    the step size 1/9 and the momentum 4/9 that are best for eigenvalues from 1 to 25, the heavy ball ends in a cycle of
    three points if it starts between 3.07 and 3.46.

    Source: Lessard, Recht and Packard, SIAM J. Optim. 2016, Section 4.6.
    """

    def value(w):
        middle, right = w.clamp(1, 2), w.clamp(min=2)
        root = torch.where(w < 2, middle**2 + 48 * middle - 24, 25 * right**2 - 48 * right + 72).sqrt()
        return torch.where(w < 1, 5 * w, root)

    return System(value, [0.0], [start])
