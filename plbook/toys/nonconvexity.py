"""Where a loss is convex around its minima and where it is not: chapter 3."""

from math import sqrt

import torch

from plbook.systems import System


def wells(start=(-0.5, 1.5)):
    """F(w) = (w1^2 - 1, w2 - w1^2/2, sqrt(0.18) (w1 + 1)), y = 0: two unknowns, three equations, two isolated minima.

    L' = 0 for w2 = w1^2/2 and (w1 + 1)(2 w1^2 - 2 w1 + 0.18) = 0: minima at w1 = -1, where L = 0, and at w1 = 0.9, where
    L = 0.34295; a saddle between them at w1 = 0.1. At all three H_L = [[6 w1^2 - 1.82 + w1^2, -w1], [-w1, 1]], whose
    determinant is 6 w1^2 - 1.82.
    """

    def value(w):
        return torch.stack([w[0] ** 2 - 1, w[1] - w[0] ** 2 / 2, sqrt(0.18) * (w[0] + 1)])

    return System(value, [0.0] * 3, start)


def valley(start=(1.0, 2.0)):
    """F(w) = w2 - sin w1, y = 0: one equation in two unknowns, whose solutions are a sine curve.

    DF = (-cos w1, 1) never vanishes. With r = w2 - sin w1, H_L = [[cos^2 w1 + r sin w1, -cos w1], [-cos w1, 1]] has
    the determinant r sin w1: it has a negative eigenvalue exactly where r sin w1 < 0, inside every bend of the curve.
    """
    return System(lambda w: (w[1] - w[0].sin())[None], [0.0], start)


def bowl(tilt, num_parameters=6):
    """F(w) = (w1, tilt w2 + |w'|^2/2) with w' = (w2, ..., wp), y = 0, start 0: two equations, solved by the start.

    With g = F_2, L = w1^2/2 + g^2/2, and the eigenvalues of H_L are 1 (along w1), g + |w' + tilt e2|^2 and p - 2 times g.
    The solutions are w1 = 0 and |w' + tilt e2| = tilt: a sphere, with negative eigenvalues exactly inside. For tilt = 0
    it is a single point and L is convex, although DF(0) is not 0 and H_2 has rank p - 1: the counterexample to the
    paper's Proposition 2 for p >= 6.
    """

    def value(w):
        return torch.stack([w[0], tilt * w[1] + w[1:] @ w[1:] / 2])

    return System(value, [0.0] * 2, torch.zeros(num_parameters))


def straight(start=(0.5, 0.0)):
    """F(w) = w1 phi(w2) with phi(s) = 1 + s + 2 s^2, y = 0: the solutions w1 = 0 are a straight line.

    At 0, DF = (1, 0) and H_F = [[0, 1], [1, 0]] has rank 2. With P = phi(w2), P' and P'' = 4, H_L = [[P^2, 2 w1 P P'],
    [2 w1 P P', w1^2 (P'^2 + P P'')]] has the determinant w1^2 P^2 (1 - 20 w2 - 40 w2^2): it is positive semidefinite on
    the strip between w2 = (-10 - sqrt(140))/40 = -0.5458 and w2 = (-10 + sqrt(140))/40 = 0.0458, and beside it only for w1 = 0.
    """
    return System(lambda w: w[:1] * (1 + w[1:] + 2 * w[1:] ** 2), [0.0], start)
