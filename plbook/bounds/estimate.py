"""The largest curvature that a search of a ball finds: an estimate, never more than the truth."""

from math import inf

import torch
from torch.func import grad, jvp

STARTS = 4  # the center of the ball and random points of it
MOVES = 4  # ascents from each start
SWEEPS = 8  # improvements of the three directions at each point, at most
SETTLED = 1e-4  # an improvement by less than this fraction is the last


def largest_curvature_found(system, radius, w):
    """The largest |u . D^2 F(v)[a, b]| found over points v of the ball and unit vectors u, a, b.

    At a point each of the three directions is replaced by the best one for the other two, in turn; then the point moves to
    where the value grows, far or, failing that, near. DF has no smaller Lipschitz constant on the ball; it may have only
    larger ones. Cost: some hundred evaluations of F.
    """
    generator = torch.Generator().manual_seed(0)

    def unit(size):
        vector = torch.randn(size, dtype=torch.float64, generator=generator).to(w.device)
        return vector / vector.norm()

    best = 0.0
    for start in range(STARTS):
        point = w + radius * start / STARTS * unit(len(w))
        value, directions = _best_directions(system, point, [unit(system.num_equations), unit(len(w)), unit(len(w))])
        best = max(best, value)
        for move in range(MOVES if radius else 0):
            uphill = grad(_curvature(system))(point, *directions)
            if not uphill.isfinite().all() or not uphill.any():
                break
            for share in (1.0, 0.3, 0.1):
                farther = _inside(point + share * radius * uphill / uphill.norm(), w, radius)
                higher, found = _best_directions(system, farther, list(directions))
                if higher > value:
                    point, value, directions = farther, higher, found
                    break
            else:
                break
            best = max(best, value)
    return best


def _inside(point, w, radius):
    """The nearest point of the ball."""
    away = point - w
    distance = away.norm().item()
    return w + away * (radius / distance) if distance > radius else point


def _bend(system, point, u, a):
    """u . D^2 F(v)[a, .], a vector."""
    return jvp(grad(lambda v: system.value(v) @ u), (point,), (a,))[1]


def _curvature(system):
    """(v, u, a, b) -> u . D^2 F(v)[a, b]."""
    return lambda point, u, a, b: _bend(system, point, u, a) @ b


def _best_directions(system, point, directions):
    """(value, directions) after each of the three was replaced by the best one for the other two, until that helps no more."""
    curvature, best = _curvature(system), 0.0
    u, a, b = directions
    for _ in range(SWEEPS):
        before = best
        u, _ = _unit(grad(curvature, argnums=1)(point, u, a, b))
        a, _ = _unit(_bend(system, point, u, b))
        b, best = _unit(_bend(system, point, u, a))
        if not 0 < best < inf:
            return 0.0, directions
        if best <= before * (1 + SETTLED):
            break
    return best, [u, a, b]


def _unit(vector):
    """(vector / |vector|, |vector|)."""
    size = vector.norm().item()
    return (vector / size if size else vector), size
