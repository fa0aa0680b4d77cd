"""Gradient descent with momentum, and the rates that linear systems give it: chapter 11."""

from dataclasses import dataclass
from math import isfinite, sqrt

import torch

from plbook.descent import Trajectory

METHODS = ("nesterov", "heavy ball")


def accelerated_gradient_descent(system, w=None, *, step_size, momentum, method="nesterov", max_steps):
    """Gradient descent with momentum on the square loss L.

        nesterov     v = w_t + momentum (w_t - w_{t-1}),   w_{t+1} = v - step_size grad L(v)
        heavy ball   w_{t+1} = w_t - step_size grad L(w_t) + momentum (w_t - w_{t-1})

    Args:
        w: the start, at rest; None means system.start.
        step_size: a number > 0.
        momentum: a number from 0, which is gradient descent, to below 1.
        method: "nesterov" or "heavy ball".
        max_steps: take this many steps; a run ends early if it diverges or meets a solution at rest.

    Returns:
        A Trajectory whose points are the start and the last iterate. Its losses need not fall at every step. A run that
        diverges is not an error: `status` says so.

    Cost: about 4 evaluations of F a step, 3 for the heavy ball.

    Raises:
        ValueError: for options out of range and a start that is not finite.

    Source: the paper's Section 7, which expects its condition numbers to govern such methods.
    """
    _check_options(step_size, momentum, method, max_steps)
    start = w = before = system.point(w)
    if not start.isfinite().all():
        raise ValueError("the start w must be finite, but some of its entries are NaN or infinite.")
    losses, distances = [], []
    for step in range(max_steps + 1):
        residual, gradient = system._residual_and_gradient(w)
        losses.append((0.5 * residual @ residual).item())
        distances.append((w - start).norm().item())
        if not isfinite(losses[-1]):
            status = f"diverged: the loss is not finite after {step} steps; the step size or the momentum is too large"
            break
        if losses[-1] == 0 and torch.equal(w, before):
            status = "reached a solution"
            break
        status = "took all its steps"
        if step < max_steps:
            ahead = w + momentum * (w - before)
            if method == "nesterov" and momentum:
                gradient = system.gradient(ahead)
            before, w = w, ahead - step_size * gradient
    return Trajectory(
        losses=torch.tensor(losses, dtype=torch.float64),
        distances=torch.tensor(distances, dtype=torch.float64),
        w=w,
        points=torch.stack([start, w]),
        recorded_steps=(0, step),
        step_size=step_size,
        status=status,
        constants=(),
    )


def momentum_rates(eigenvalues, *, step_size, momentum, method="nesterov"):
    """By which factor a step shrinks the residual along each eigenvector of K, for a linear system, in the long run.

    Along an eigenvector with eigenvalue x the residual obeys r_{t+1} = a r_t - b r_{t-1}; its factor is the larger absolute
    value of the eigenvalues of the companion matrix [[a, -b], [1, 0]], with

        nesterov     a = (1 + momentum)(1 - step_size x),   b = momentum (1 - step_size x)
        heavy ball   a = 1 + momentum - step_size x,        b = momentum

    The slowest direction is the largest factor; the loss shrinks by its square. Below 1 the residual vanishes. For a double
    eigenvalue of the companion matrix it falls like t times the power.

    Args:
        eigenvalues: of K, shape (k,).

    Returns:
        The factors, shape (k,).

    Raises:
        ValueError: for options out of range.
    """
    _check_options(step_size, momentum, method, 0)
    x = torch.as_tensor(eigenvalues, dtype=torch.float64)
    if method == "nesterov":
        a, b = (1 + momentum) * (1 - step_size * x), momentum * (1 - step_size * x)
    else:
        a, b = 1 + momentum - step_size * x, torch.full_like(x, momentum)
    root = (a**2 - 4 * b).to(torch.complex128).sqrt()
    return torch.maximum((a + root).abs(), (a - root).abs()) / 2


@dataclass(frozen=True)
class MomentumConstants:
    """A step size and a momentum, and the factor by which they shrink the residual of a linear system per step."""

    step_size: float
    momentum: float
    rate: float


def momentum_constants(smallest, largest, *, method="nesterov"):
    """The textbook step size and momentum for a kernel whose eigenvalues lie between `smallest` and `largest`.

    With kappa = largest / smallest:

        nesterov     1 / largest,                              (sqrt(kappa) - 1) / (sqrt(kappa) + 1):       rate 1 - 1 / sqrt(kappa)
        heavy ball   4 / (sqrt(largest) + sqrt(smallest))^2,   the square of the same:                      rate 1 - 2 / (sqrt(kappa) + 1)

    The heavy ball's choice has the smallest rate that a step size and a momentum can have on this range. Without momentum
    the step size 1 / largest has the rate 1 - 1 / kappa.

    Raises:
        ValueError: unless 0 < smallest <= largest < inf, and for an unknown method.

    Source: Polyak, 1964, for the heavy ball; Lessard, Recht and Packard, 2016, Section 1, for both on quadratic functions.
    """
    if not 0 < smallest <= largest < float("inf"):
        raise ValueError(f"eigenvalues must satisfy 0 < smallest <= largest < inf, got {smallest} and {largest}.")
    _check_method(method)
    root = sqrt(largest / smallest)
    momentum = (root - 1) / (root + 1)
    if method == "nesterov":
        return MomentumConstants(1 / largest, momentum, 1 - 1 / root)
    return MomentumConstants(4 / (sqrt(largest) + sqrt(smallest)) ** 2, momentum**2, momentum)


def _check_options(step_size, momentum, method, max_steps):
    if not (isfinite(step_size) and step_size > 0):
        raise ValueError(f"step_size must be a positive number, got {step_size}.")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1); 0 is gradient descent without momentum. Got {momentum}.")
    if not (isfinite(max_steps) and max_steps >= 0 and int(max_steps) == max_steps):
        raise ValueError(f"max_steps must be a whole number >= 0, got {max_steps}.")
    _check_method(method)


def _check_method(method):
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}; got {method!r}.")
