"""Systems with a small loss but no solution, and the landscapes of chapter 10."""

import torch

from plbook.systems import System


def bumpy_valley(height=0.5, start=(2.4, 2.6)):
    """F(w) = (w2 - w1^2/4, height (1 + cos(5 w1)/2 + sin(w1)/4)), y = 0: walls, and a bottom that is never quite 0.

    DF = [[-w1/2, 1], [height (cos(w1)/4 - 5 sin(5 w1)/2), 0]]. F_2 lies between height/4 and M = 7 height/4, so there is
    no solution; critical points lie on the bottom w2 = w1^2/4 where F_2 has one along w1. The second entry of grad L is F_1,
    so 1/2 |grad L|^2 >= L - M^2/2: PL*_epsilon holds on the whole plane with 1 - M^2 / (2 epsilon).
    """

    def value(w):
        bottom = height * (1 + (5 * w[0]).cos() / 2 + w[0].sin() / 4)
        return torch.stack([w[1] - w[0] ** 2 / 4, bottom])

    # The derivative of DF along w1 has the entries 1/2 and at most 51 height/4.
    return System(value, [0.0, 0.0], start, jacobian_lipschitz=(1 / 4 + (51 * height / 4) ** 2) ** 0.5)


def bumps(height=0.5, frequency=8.0, start=3.0):
    """F(w) = (w, a cos(k w)), y = 0, one unknown: L = w^2/2 + a^2 cos(k w)^2 / 2, a parabola with bumps.

    a = height, k = frequency. DF = (1, -a k sin(k w)). L'' = 1 - a^2 k^2 cos(2 k w) lies between 1 - a^2 k^2 and
    1 + a^2 k^2 everywhere, and |L' - w| <= a^2 k / 2. L has several local minima once a^2 k^2 is well above 1.
    """
    return System(lambda w: torch.cat([w, height * (frequency * w).cos()]), [0.0, 0.0], [start],
                  jacobian_lipschitz=height * frequency**2)


def ramp(width=0.05, start=0.0):
    """F(w) = sqrt(2 G(w)) with G(w) = d log(1 + exp((1 + w)/d)), d = width, y = 0: so L = G.

    L > 0, L' = 1/(1 + exp(-(1 + w)/d)), L'' = L' (1 - L') / d: about 1 + w with slope 1 to the right of -1, and smooth there
    with a tiny constant; all of its curvature, up to 1/(4 d), is near -1. DF = (L' / F).
    """
    one = torch.zeros(1, dtype=torch.float64)
    return System(lambda w: (2 * width * torch.logaddexp((1 + w) / width, one)).sqrt(), [0.0], [start])


def egg_crate(target=0.4, start=(0.3, -0.6)):
    """F(w) = sin(w1) + sin(w2). DF = (cos(w1), cos(w2)), K = cos(w1)^2 + cos(w2)^2 <= 2.

    Singular points: both unknowns odd multiples of pi/2, where F is 2, 0 or -2. The solutions are curves for -2 < target < 2.
    """
    return System(lambda w: w.sin().sum()[None], [target], start, jacobian_lipschitz=1.0)


def folds(coupling=0.25, targets=(0.0, 0.0), start=(2.0, 2.0)):
    """F(w) = (w1^3/3 - w1 + c w2^2, w2^3/3 - w2 + c w1^2), c = coupling: two equations in two unknowns.

    DF = [[w1^2 - 1, 2 c w2], [2 c w1, w2^2 - 1]], so the singular set is (w1^2 - 1)(w2^2 - 1) = 4 c^2 w1 w2: curves, which
    cross for c = 0.
    """
    return System(lambda w: w**3 / 3 - w + coupling * w.flip(0) ** 2, targets, start)
