"""What PL*_epsilon promises gradient descent and stochastic gradient descent: chapter 10."""

from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, log, log1p, sqrt


@dataclass(frozen=True)
class DescentToEpsilon:
    """Gradient descent has a loss below epsilon after at most `steps` steps, within `radius` of its start."""

    steps: float
    radius: float


@dataclass(frozen=True)
class StochasticDescentToEpsilon:
    """What SGD with `step_size` does with the probability asked for: a loss below epsilon within `steps` steps and `radius`.

    `decay` is a in E[L(w_t) 1{not stopped}] <= (1 - a)^t L(w_0).
    """

    step_size: float
    decay: float
    steps: int
    radius: float


def descent_to_epsilon(loss, epsilon, mu, step_size):
    """The promise of Theorem 9, with the smaller ball: a DescentToEpsilon.

    If L is mu-PL*_epsilon in the ball of radius 2 sqrt(2 L(w0) / mu) around w0, and |H_L|_2 <= 1/step_size there, then the
    first step T with L(w_T) < epsilon has T <= 1 + log(L(w0)/epsilon) / (-log(1 - step_size mu)), and w_T is in the ball.

    Args:
        loss: L(w0).
        epsilon, step_size: positive.
        mu: >= 0; with 0 nothing is promised, and both numbers are inf (unless the loss is below epsilon already).

    Raises:
        ValueError: for numbers out of range, and for step_size * mu > 1, which no step size of the theorem has.

    Source: the paper's Theorem 9; it has the radius 2 sqrt(2 beta L(w0)) / mu.
    """
    _check_positive(epsilon=epsilon, step_size=step_size)
    _check_losses(loss, mu)
    if step_size * mu > 1:
        raise ValueError(
            f"step_size * mu is {step_size * mu:.3g}, but at most 1/sup|H_L|_2 times a PL* constant is at most 1. "
            "Take a smaller step size or a constant mu that holds."
        )
    if loss < epsilon:
        return DescentToEpsilon(0, 0.0)
    if mu == 0:
        return DescentToEpsilon(inf, inf)
    radius = 2 * sqrt(2 * loss / mu)
    if step_size * mu == 1:
        return DescentToEpsilon(1, radius)
    # Rounding must not take the last step away.
    return DescentToEpsilon(floor(1 + log(loss / epsilon) / -log1p(-step_size * mu) + 1e-9), radius)


def stochastic_descent_to_epsilon(loss, epsilon, mu, *, smoothness, num_equations, batch_size, leave=0.1, late=0.1):
    """The promise of the corrected Theorem 10: a StochasticDescentToEpsilon, kept with probability 1 - leave - late.

    For L = sum of n nonnegative losses, each gamma-smooth on the whole space, and L mu-PL*_epsilon in the ball. With
    batches of s equations, drawn uniformly with replacement, whose gradients are added up:
    step_size = mu / (gamma (n gamma + mu (s - 1))), decay = mu s step_size / n,
    radius = 2 sqrt(2 n gamma L(w0)) / (mu leave), steps = ceil(log(L(w0) / (epsilon late)) / decay).

    Args:
        loss: L(w0).
        smoothness: gamma.
        leave, late: the probabilities, between 0 and 1, to leave the ball first and to need more steps.

    Raises:
        ValueError: for numbers out of range, and for mu > n gamma, which no PL* constant exceeds.

    Source: the paper's Theorem 10, whose ball is sqrt(n) times as large and whose steps are up to n times as small.
    """
    _check_positive(epsilon=epsilon, mu=mu, smoothness=smoothness, num_equations=num_equations, batch_size=batch_size)
    _check_losses(loss, mu)
    for name, value in (("leave", leave), ("late", late)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is a probability between 0 and 1, got {value}.")
    n, gamma = num_equations, smoothness
    if mu > n * gamma:
        raise ValueError(f"mu is {mu:.3g}, but L is {n * gamma:.3g}-smooth and its PL* constant is at most that.")
    step_size = stochastic_step_size(mu, smoothness=gamma, num_equations=n, batch_size=batch_size)
    decay = mu * batch_size * step_size / n
    steps = 0 if loss < epsilon else ceil(log(loss / (epsilon * late)) / decay)
    return StochasticDescentToEpsilon(step_size, decay, steps, 2 * sqrt(2 * n * gamma * loss) / (mu * leave))


def stochastic_step_size(mu, *, smoothness, num_equations, batch_size):
    """mu / (gamma (n gamma + mu (s - 1))): up to this step size, Theorems 7 and 10 promise a factor 1 - mu s step_size / n.

    The paper prints n^2 gamma in place of n gamma: up to n times smaller.
    """
    return mu / (smoothness * (num_equations * smoothness + mu * (batch_size - 1)))


def _check_positive(**numbers):
    for name, value in numbers.items():
        if not (isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive finite number, got {value}.")


def _check_losses(loss, mu):
    for name, value in (("loss", loss), ("mu", mu)):
        if not (isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number >= 0, got {value}.")
