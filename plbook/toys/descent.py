"""Where stochastic gradient descent may get lost: the counterexample of chapter 8."""

import torch

from plbook.systems import System


def plateau(edge=32.0):
    """Two equations in one unknown, y = 0, whose losses l_i = F_i^2/2 have piecewise linear derivatives. The solution is 0.

    l_1' = w up to b = edge, then falls to 0 at 2 b and stays there: a plateau of height b^2. l_2' = w up to 1, then falls to
    -c = -1/(2 b) at 2 + c, stays there up to 2 b, and rises to 0 at 2 b + c: a hill, and a gentle slope away from the solution.
    Both are 1-smooth on the whole line. On w <= b the smallest PL ratio of L is 2/(3 + 2 c), at the start 2 + c, where
    L = 3 + 2 c; beyond 2 b, L is at least b^2.
    """
    b, c = edge, 1 / (2 * edge)
    top = torch.tensor(2 + c, dtype=torch.float64)

    def value(w):
        fall = 2 * b - w.clamp(b, 2 * b)
        first = torch.where(w < b, w, (2 * b**2 - fall**2).sqrt())
        # At 2 + c both pieces have the slope -c, and minimum and maximum give half of it each.
        hill = 1 - (2 - torch.minimum(w.clamp(min=1), top)) ** 2 / 2
        end = w.clamp(2 * b, 2 * b + c) - 2 * b
        loss = hill - c * (torch.maximum(w.clamp(max=2 * b + c), top) - top) + end**2 / 2
        return torch.cat([first, torch.where(w < 1, w, (2 * loss).sqrt())])

    return System(value, [0.0, 0.0], top[None])
