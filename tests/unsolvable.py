"""Random systems without a solution, at points where a careless certificate would hold: none may.

One case is one seed. The kinds: equal inputs with different labels, squares that cannot reach their target, maps of too low
a rank, targets outside the range of a bounded output, and the extremal system of the theorem with h just above 1/2. Sizes
range from 1e-8 to 1e8. A proven constant is handed in where one exists.
"""

import math

import torch
from torch import nn

import plbook as pl

SEEDS = range(10_000)


def equal_inputs(draw):
    """A network on inputs two of which are equal, with labels that differ, after Gauss-Newton steps."""
    x = normal(draw, 4, 3)
    x[3] = x[0]
    y = normal(draw, 4)
    y[3] = y[0] + 10 ** uniform(draw, -8, 0)
    widths = [[6], [5, 4], [30]][integer(draw, 3)]
    module = pl.MLP(3, widths, activation=["tanh", "gelu", "softplus"][integer(draw, 3)], seed=integer(draw, 10**6))
    return scaled(module, 10 ** uniform(draw, -2, 1), x, y)


def squares(draw):
    """F_i(w) = a |w_i|^2 + c_i for blocks w_i, one target below its c_i: h = (1 + (c - y) / (a |w|^2)) / 2 for one equation."""
    n, size, a = 1 + integer(draw, 3), 1 + integer(draw, 3), power(draw)
    c = a * normal(draw, n) * power(draw)
    w = normal(draw, n, size) * power(draw)
    y = (a * w.square().sum(dim=1) + c) * (1 - 1e-3 * normal(draw, n).abs())
    gap = a * 10 ** uniform(draw, -8, 8)
    y[0] = min(c[0].item() - gap, math.nextafter(c[0].item(), -math.inf))
    return pl.System(lambda v: a * v.view(n, size).square().sum(dim=1) + c, y, w.reshape(-1), jacobian_lipschitz=2 * a)


def far_square(draw):
    """F(w) = w^2 + 1 far out, where h rounds to 1/2; and F(w) = s (w^2 + c) at any scale."""
    c, s, w = (1.0, 1.0, 1e9) if integer(draw, 4) == 0 else (power(draw), power(draw), power(draw) * 10 ** uniform(draw, 0, 4))
    return pl.System(lambda v: s * (v**2 + c), [0.0], [w], jacobian_lipschitz=2 * s)


def low_rank(draw):
    """Rows that are exact multiples of others, with targets that are not: A w = y, or sin of it times a number."""
    n, p = 2 + integer(draw, 3), 6
    rows = torch.round(8 * normal(draw, n, p)) * 2.0 ** round(uniform(draw, -26, 26))
    rows[-1] = rows[0] * 2.0 ** integer(draw, 6)
    w = normal(draw, p) * power(draw)
    y = rows @ w
    y[-1] = y[0] * (rows[-1, 0] / rows[0, 0] if rows[0, 0] else 1.0) + y.abs().max() * 10 ** uniform(draw, -12, 0) + 1e-300
    if integer(draw, 2):
        return pl.System(lambda v: rows @ v, y, w, jacobian_lipschitz=0.0)
    first = rows[0] / rows[0].norm().clamp(min=1e-300)
    beta = 2.0 * (first @ first).item() * (1 + 1e-12)
    return pl.System(lambda v: torch.stack([(first @ v).sin(), (first @ v).sin()]), torch.stack([y[0] / y[0], y[0] * 0]), w / w.norm(), jacobian_lipschitz=beta)


def bounded_output(draw):
    """A network with tanh or sigmoid at its end and a target beyond 1, or sin(A w) = y with |y| > 1."""
    beyond = 1 + 10 ** uniform(draw, -8, 1)
    if integer(draw, 2):
        a = normal(draw, 2, 5) * power(draw) ** 0.5
        w = torch.linalg.pinv(a) @ torch.full((2,), math.pi / 2 - 10 ** uniform(draw, -8, 0), dtype=torch.float64)
        return pl.toys.sines(a, torch.tensor([beyond, 0.5], dtype=torch.float64), w)
    module = pl.MLP(3, [8], output_activation=["tanh", "sigmoid"][integer(draw, 2)], seed=integer(draw, 10**6))
    y = torch.tensor([beyond, 0.5], dtype=torch.float64)
    return scaled(module, 10 ** uniform(draw, -1, 1), normal(draw, 2, 3), y)


def extremal(draw):
    """F(w) = (s w_1 - beta |w|^2 / 2, s w_2, ...) from 0 with |y| = s^2 (1 + delta) / (2 beta): h = (1 + delta) / 2."""
    n, beta, s = 1 + integer(draw, 3), power(draw), power(draw)
    p = n + integer(draw, 2)
    y = torch.zeros(n, dtype=torch.float64)
    y[0] = s * s / (2 * beta) * (1 + 10 ** uniform(draw, -14, 0))

    def function(w):
        first = s * w[:1] - beta * (w @ w)[None] / 2
        return torch.cat([first, s * w[1:n]])

    return pl.System(function, y, torch.zeros(p, dtype=torch.float64), jacobian_lipschitz=beta)


KINDS = (equal_inputs, squares, far_square, low_rank, bounded_output, extremal)


def normal(draw, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=draw)


def uniform(draw, low, high):
    return low + (high - low) * torch.rand((), dtype=torch.float64, generator=draw).item()


def integer(draw, stop):
    return int(torch.randint(stop, (), generator=draw))


def power(draw):
    """A number between 1e-8 and 1e8."""
    return 10 ** uniform(draw, -8, 8)


def scaled(module, factor, x, y):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(factor)
    return pl.NetworkSystem(nn.Sequential(module), x, y)


def measure(seed):
    """Whether the certificate held at the start or after polishing: it must not."""
    draw = torch.Generator().manual_seed(seed)
    kind = KINDS[seed % len(KINDS)]
    system = kind(draw)
    points = [system.start]
    if seed % 2:
        points.append(pl.polish(system, max_steps=5).w)
    found = [pl.certify_solution(system, w) for w in points if w.isfinite().all()]
    return {
        "seed": seed,
        "kind": kind.__name__,
        "holds": any(certificate.holds for certificate in found),
        "smallest_h": min(certificate.kantorovich_number for certificate in found),
        "status": found[-1].status[:60],
    }


def summary(results):
    smallest = {}
    for r in results:
        smallest[r["kind"]] = min(r["smallest_h"], smallest.get(r["kind"], math.inf))
    return {
        "kinds": {kind.__name__: sum(r["kind"] == kind.__name__ for r in results) for kind in KINDS},
        "smallest_h": {kind: h if math.isfinite(h) else "none" for kind, h in smallest.items()},
        "failures": [r for r in results if r["holds"]],
    }
