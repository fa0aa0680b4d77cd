"""Random networks and balls: the certified Lipschitz constants of DF against what sampling and ascent find.

One case is one seed. `found` is a true lower bound of the constant: a curvature at a point of the ball, or a slope between
two of its points, from dense second derivatives.
"""

import math

import torch
from helpers import Forward, seeded
from torch import nn
from torch.func import grad, hessian, jacrev

import plbook as pl
from plbook.networks import Divide, Elementwise

SEEDS = range(10_000)
POINTS = 3  # random points of the ball
ASCENTS = 2
SWEEPS = 15

SMOOTH = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "sharp softplus": lambda: nn.Softplus(beta=3.0),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "erf": lambda: Elementwise("erf", torch.erf),
    "sin": lambda: Elementwise("sin", torch.sin),
    "identity": nn.Identity,
}


def random_network(seed):
    """(module, the shape of an input): depth 0 to 3, Linear or convolutional, with and without skips, biases, pooling."""
    draw = torch.Generator().manual_seed(seed)

    def pick(options):
        return options[int(torch.randint(len(options), (), generator=draw))]

    def activation():
        return SMOOTH[pick(sorted(SMOOTH))]()

    bias = pick([True, False])
    kind = pick(["plain", "plain", "paper", "skip", "convolution", "pooled", "positions", "frozen"])
    widths = [pick([1, 2, 4, 7]) for _ in range(pick([0, 1, 1, 2, 2, 3]))]
    outputs = pick([1, 1, 2])
    if kind == "paper":
        width = pick(["tanh", "erf", "sin", "gelu", "silu", "softplus"])
        return pl.MLP(3, widths, outputs, activation=width, output_activation=pick([None, None, "sigmoid"]), seed=seed), (3,)
    if kind == "skip":
        width = pick([2, 4])

        def forward(m, x):
            first = m.first(x)
            return m.last(m.after(m.act(m.inner(first)) + 0.5 * first) - m.beside(x) + 1)

        first = nn.Sequential(nn.Linear(3, width), activation()) if pick([True, False]) else nn.Linear(3, width)
        layers = {"inner": nn.Linear(width, width, bias=bias), "beside": nn.Linear(3, width, bias=False)}
        layers |= {"first": first, "act": activation(), "after": activation(), "last": nn.Linear(width, outputs)}
        return Forward(forward, **layers), (3,)
    if kind in ("convolution", "pooled"):
        channels, stride = pick([1, 2, 3]), pick([1, 2])
        layers = [nn.Conv2d(1, channels, 3, stride=stride, padding=pick([0, 1]), bias=bias), activation()]
        if pick([True, False]):
            layers += [nn.Conv2d(channels, 2, 2, padding=1, bias=bias), activation()]
        layers += [nn.AvgPool2d(2)] if kind == "pooled" and stride == 1 else [nn.AdaptiveAvgPool2d(1)] if kind == "pooled" else []
        layers += [nn.Flatten()]
        size = nn.Sequential(*layers)(torch.zeros(1, 1, 4, 4)).shape[1]
        return nn.Sequential(*layers, nn.Linear(size, outputs, bias=bias)), (1, 4, 4)
    shape = (2, 3) if kind == "positions" else (3,)
    layers, fan_in = [], 3
    for width in widths:
        layers += [nn.Linear(fan_in, width, bias=bias), activation(), Divide(math.sqrt(width))]
        fan_in = width
    if kind == "positions":
        layers, fan_in = [*layers, nn.Flatten()], 2 * fan_in
    module = nn.Sequential(*layers, nn.Linear(fan_in, outputs, bias=bias))
    if kind == "frozen":
        parameters = list(module.parameters())
        for parameter in parameters[:-1]:
            parameter.requires_grad_(pick([True, False]))
    return module, shape


def case(seed):
    """(system, radius) of a seed; inputs and weights of several scales."""
    module, shape = seeded(lambda: random_network(seed), seed)
    draw = torch.Generator().manual_seed(seed + 10**6)
    n, scale, size, exponent = 1 + seed % 3, *(torch.rand(3, generator=draw).tolist())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(10 ** (scale - 0.3))
    inputs = torch.randn(n, *shape, dtype=torch.float64, generator=draw) * 10 ** (size - 0.5)
    outputs = module.double()(inputs).reshape(n, -1).shape[1]
    radius = 0.0 if seed % 5 == 0 else 10 ** (3 * exponent - 2)
    return pl.NetworkSystem(module, inputs, torch.zeros(n, outputs, dtype=torch.float64)), radius


def measure(seed):
    """The bounds of one case, and the largest lower bounds found: (of `value`, of `center`)."""
    system, radius = case(seed)
    bound = pl.jacobian_lipschitz_bound(system, radius)
    found, found_center = attack(system, radius, seed)
    return {
        "seed": seed,
        "rigour": bound.rigour,
        "ratio": ratio(bound.value, found),
        "center_ratio": ratio(bound.center, found_center),
    }


def ratio(bound, found):
    return math.inf if found == 0 else bound / found


def attack(system, radius, seed):
    """(largest curvature or slope between points of the ball, largest slope from its center)."""
    w, draw = system.start, torch.Generator().manual_seed(seed + 2 * 10**6)
    jacobian, second = jacrev(system.value), hessian(system.value)
    center, found, found_center = jacobian(w), 0.0, 0.0
    points = [w] + [inside(w, radius, draw) for _ in range(POINTS if radius else 0)]
    for point in points:
        for _ in range(ASCENTS if radius else 1):
            value, directions = curvature(second(point), draw)
            found = max(found, value)
            if radius == 0:
                found_center = value
                break
            away = point - w
            if away.norm() > 1e-3 * radius:
                slope = (torch.linalg.matrix_norm(jacobian(point) - center, 2) / away.norm()).item()
                found_center, found = max(found_center, slope), max(found, slope)
            u, a, b = directions
            uphill = grad(lambda v: ((hessian(system.value)(v) @ a) @ b) @ u)(point)
            if not uphill.any():
                break
            uphill /= uphill.abs().max()  # the norm of a gradient below 1e-162 would be 0
            point = w + radius * (uphill / uphill.norm())
    return found, found_center


def inside(w, radius, draw):
    direction = torch.randn(len(w), dtype=torch.float64, generator=draw)
    return w + radius * torch.rand((), dtype=torch.float64, generator=draw) ** 0.3 * direction / direction.norm()


def curvature(tensor, draw):
    """A lower bound of the norm of the trilinear form (n, p, p), by alternating directions, and the directions."""
    values = torch.linalg.eigvalsh(tensor)
    equation = values.abs().amax(dim=1).argmax()
    a = torch.linalg.eigh(tensor[equation]).eigenvectors[:, values[equation].abs().argmax()]
    best, directions = 0.0, None
    for start in (a, torch.randn(len(a), dtype=torch.float64, generator=draw)):
        a = b = start / start.norm()
        for _ in range(SWEEPS):
            u = normalized((tensor @ a) @ b)
            matrix = torch.einsum("n,npq->pq", u, tensor)
            b = normalized(matrix @ a)
            a = normalized(matrix @ b)
        value = ((tensor @ a) @ b).norm().item()
        if value >= best:
            best, directions = value, (normalized((tensor @ a) @ b), a, b)
    return best, directions


def normalized(vector):
    return vector / vector.norm().clamp(min=1e-300)


def summary(results):
    bad = [r for r in results if r["rigour"] != "verified" or min(r["ratio"], r["center_ratio"]) < 1]
    return {
        "smallest_ratio": min(r["ratio"] for r in results),
        "smallest_center_ratio": min(r["center_ratio"] for r in results),
        "failures": bad,
    }
